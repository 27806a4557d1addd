DROP TABLE kernels.kernels CASCADE;
DROP INDEX kernels.executions_audience;
