DROP FUNCTION jobs.pipeline_event (jobs.pipelines);
DROP FUNCTION jobs.deployment_events (jobs.deployments, text, jsonb);
DROP FUNCTION jobs.deployment_shown (jobs.deployments);
DROP TABLE jobs.etl_pipelines;
DROP TABLE jobs.deployments;
DROP TABLE jobs.pipelines;
