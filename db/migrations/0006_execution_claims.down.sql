ALTER TABLE kernels.executions DROP COLUMN claim;
