DROP FUNCTION platform.repository_shown (platform.repositories);
DROP TABLE platform.repositories;
