DROP FUNCTION platform.statement_listed (platform.statements);
DROP FUNCTION platform.statement_told (platform.statements);
DROP FUNCTION platform.statement_brief (platform.statements);
DROP FUNCTION platform.statement_ms (platform.statements);
DROP FUNCTION platform.statement_channel (platform.statements);
DROP TABLE platform.statement_rows;
DROP TABLE platform.statements;
DROP TABLE platform.saved_queries;
DROP TABLE platform.queries;
