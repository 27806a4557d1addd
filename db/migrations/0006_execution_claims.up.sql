--  Executions run under the claim of their notebook; without it they are lost.

ALTER TABLE kernels.executions ADD COLUMN claim bigint NOT NULL DEFAULT 0;
