CREATE OR REPLACE FUNCTION kernels.execution_brief (e kernels.executions) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object (
        'id', e.id, 'execution_id', e.id, 'notebook_id', e.notebook_id, 'cell_id', e.cell_id,
        'language', e.language, 'state', e.state, 'execution_count', e.execution_count,
        'error', kernels.error_text (e.error), 'truncated', e.truncated, 'channel', e.channel,
        'created_at', base.utc (e.created_at), 'started_at', base.utc (e.started_at),
        'finished_at', base.utc (e.finished_at))
$$;
ALTER TABLE kernels.executions DROP COLUMN session;

SELECT base.actor_remove ('jobs');
