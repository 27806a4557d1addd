"""The objects of the data platform as its contract has them, and one user who has one of each."""

from shapes import DIGITS, LIVE, NOTHING, NUMBER, TEXT, TIME, UUID
from stack import wait_for

PERSON = {"id": UUID, "email": TEXT, "full_name": TEXT, "account_id": DIGITS, "icecube_id": DIGITS}
TOKENS = {"token": TEXT, "access_token": TEXT, "refresh_token": TEXT, "token_type": "bearer",
          "expires_in": 86400, "user": PERSON}
MESSAGE = {"message": TEXT}
ERROR = {"error": TEXT, "message": TEXT, "detail": TEXT, "code": TEXT, "details": dict, "request_id": TEXT}

TEXT_OR_NULL = TEXT | NOTHING
ROW = {"id": UUID, "user_id": UUID, "created_at": TIME, "updated_at": TIME}
STATE = {"state_detail": TEXT, "state_seq": NUMBER, "termination": NOTHING | {"code": TEXT, "type": TEXT}}

PROFILE = {**ROW, "name": TEXT, "cloud_provider": {"aws", "azure", "gcp"}, "provider": {"aws", "azure", "gcp"},
           "region": TEXT, "status": {"active", "inactive", "error"}, "external_id": TEXT_OR_NULL,
           "custom_domain": TEXT_OR_NULL, "stack_id": TEXT_OR_NULL, "has_credentials": bool}
CLUSTER = {**ROW, **STATE, "name": TEXT, "compute_type": {"spark", "dask", "ray"}, "node_type": TEXT,
           "num_workers": int, "auto_scaling": bool, "min_workers": int, "max_workers": int,
           "cluster_config": dict, "status": {"starting", "running", "stopped", "terminated", "error"},
           "endpoint_url": TEXT_OR_NULL, "cloud_profile_id": UUID | NOTHING, "cloud_profile_name": TEXT_OR_NULL}
WORKSPACE = {**ROW, "name": TEXT, "description": TEXT_OR_NULL, "category": TEXT_OR_NULL, "tags": [str],
             "icon": TEXT_OR_NULL, "color": TEXT_OR_NULL, "cloud_profile_id": UUID | NOTHING,
             "provider": NOTHING | {"aws", "azure", "gcp"}, "config": dict}
NOTEBOOK = {**ROW, "name": TEXT, "language": {"python", "sql", "scala", "r"}, "content": {"cells": list},
            "cluster_id": UUID | NOTHING, "workspace_id": UUID | NOTHING}
EXECUTION = {"execution_id": UUID, "success": bool | NOTHING, "output": str, "error": TEXT_OR_NULL,
             "executionTime": NUMBER | NOTHING, "timestamp": TIME, "language": TEXT, "state": TEXT, "live": LIVE}
SOURCE = {**ROW, "name": TEXT, "source_type": TEXT, "type": TEXT, "connection_config": dict, "config": dict,
          "status": {"active", "inactive", "error"}, "last_tested_at": TIME | NOTHING,
          "last_tested": TIME | NOTHING, "description": TEXT_OR_NULL}
TESTED = {"success": bool, "steps": ({"name": TEXT, "ok": bool, "ms": NUMBER, "message": TEXT_OR_NULL},),
          "error": TEXT_OR_NULL}
CATALOG = {**ROW, "workspace_id": UUID | NOTHING, "name": TEXT, "catalog_type": {"database", "table", "view"},
           "schema_info": dict | NOTHING, "location": TEXT_OR_NULL, "cloud_profile_id": UUID | NOTHING}
DATABASE = {"name": TEXT, "database_name": TEXT, "data_source_id": UUID | NOTHING}
TABLE = {"name": TEXT, "database_name": TEXT, "table_name": TEXT, "data_source_id": UUID | NOTHING}
COLUMN = {"data_source_id": UUID | NOTHING, "database_name": TEXT, "table_name": TEXT, "column_name": TEXT,
          "data_type": TEXT, "is_nullable": bool, "column_order": int}
QUERY = {**ROW, "workspace_id": UUID | NOTHING, "name": TEXT, "query_text": TEXT,
         "engine": {"spark", "trino", "snowflake", "postgresql"}, "cluster_id": UUID | NOTHING}
SAVED = {**ROW, "name": TEXT, "description": TEXT_OR_NULL, "query_text": TEXT, "tags": [str], "is_favorite": bool}
EXECUTED = {"success": bool, "statement_id": UUID, "state": TEXT, "error": TEXT_OR_NULL, "engine": TEXT,
            "rowCount": int, "executionTime": NUMBER, "timestamp": TIME, "live": LIVE}
JOB = {**ROW, "name": TEXT, "job_type": {"notebook", "sql", "pipeline"}, "schedule": TEXT_OR_NULL,
       "cluster_id": UUID | NOTHING, "config": dict, "enabled": bool, "workspace_id": UUID | NOTHING}
RUN = {**STATE, "id": UUID, "job_id": UUID, "status": {"pending", "running", "success", "failed"},
       "started_at": TIME | NOTHING, "completed_at": TIME | NOTHING, "logs": str, "error_message": TEXT_OR_NULL,
       "duration_seconds": NUMBER | NOTHING, "created_at": TIME}
PIPELINE = {**ROW, "workspace_id": UUID | NOTHING, "name": TEXT, "description": TEXT_OR_NULL,
            "pipeline_graph": {"nodes": list, "edges": list}, "cloud_provider": NOTHING | {"aws", "azure", "gcp"},
            "git_repo_url": TEXT_OR_NULL, "git_branch": TEXT_OR_NULL, "airflow_yaml": TEXT_OR_NULL,
            "status": TEXT, "schedule": TEXT_OR_NULL, "last_run": TIME | NOTHING, "next_run": TIME | NOTHING,
            "git_file_path": TEXT_OR_NULL, "git_sync_enabled": bool, "last_git_sync": TIME | NOTHING}
DEPLOYMENT = {"id": UUID, "pipeline_id": UUID, "status": "active", "target": "local", "job_id": UUID,
              "steps": ({"name": TEXT, "ok": True, "ms": NUMBER},)}
ETL = {**ROW, "name": TEXT, "description": TEXT_OR_NULL, "mode": {"visual", "form"},
       "workflow_data": {"nodes": list, "edges": list}, "sources": list, "targets": list, "transformations": list,
       "cloud_services": list, "status": TEXT, "last_run": TIME | NOTHING}
REPOSITORY = {**ROW, "provider": {"github", "gitlab", "bitbucket", "generic"}, "name": TEXT, "url": TEXT,
              "branch": TEXT_OR_NULL, "username": TEXT_OR_NULL, "description": TEXT_OR_NULL,
              "status": {"connected", "syncing", "error"}, "last_sync": TIME | NOTHING}

HOST = {"host": "127.0.0.1", "port": 5432, "database": "d", "user": "u", "password": "s3cr3t-of-it"}
FLOW = {"nodes": [{"id": "a", "type": "wait", "config": {"seconds": 0}}], "edges": []}


class Kind:
    """A collection: what creates one of it, what that looks like, what may be changed."""

    def __init__(self, path, shape, body, change):
        self.path, self.shape, self.body, self.change = path, shape, body, change


#  $name is the id of that thing.
KINDS = {
    "cloud_profile": Kind("/cloud-profiles", PROFILE, {
        "name": "work", "cloud_provider": "aws", "region": "us-east-1", "custom_domain": "data.example.org",
        "credentials_encrypted": {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "s3cr3t-of-it"}},
        {"region": "eu-central-1", "status": "active"}),
    "compute_cluster": Kind("/compute-clusters", CLUSTER, {
        "cloud_profile_id": "$cloud_profile", "name": "numbers", "compute_type": "dask", "node_type": "local",
        "num_workers": 1, "auto_scaling": False, "min_workers": 1, "max_workers": 2,
        "cluster_config": {"idle_minutes": 5}}, {"num_workers": 2, "name": "more numbers"}),
    "workspace": Kind("/workspaces", WORKSPACE, {
        "name": "ours", "description": "all of it", "category": "etl", "tags": ["a", "b"], "icon": "db",
        "color": "#fff", "cloud_profile_id": "$cloud_profile", "provider": "gcp",
        "config": {"projectId": "p", "region": "r", "network": "n", "subnetCidr": "10.0.0.0/16", "gcsBucket": "b",
                   "serviceAccountEmail": "a@example.org"}}, {"description": "less", "tags": []}),
    "notebook": Kind("/notebooks", NOTEBOOK, {
        "name": "first", "workspace_id": "$workspace", "language": "python", "cluster_id": None,
        "content": {"cells": []}},
        {"content": {"cells": [{"id": "1", "type": "code", "content": "1 + 1", "output": "2", "error": None,
                                "executionTime": 3}]}}),
    "data_source": Kind("/data-sources", SOURCE, {
        "name": "shop", "source_type": "postgresql", "connection_config": HOST}, {"name": "the shop"}),
    "query": Kind("/queries", QUERY, {
        "workspace_id": "$workspace", "name": "all", "query_text": "SELECT 1", "engine": "spark",
        "cluster_id": "$compute_cluster"}, {"query_text": "SELECT 2", "engine": "trino", "cluster_id": None}),
    "job": Kind("/jobs", JOB, {
        "workspace_id": "$workspace", "name": "nightly", "job_type": "sql", "schedule": "0 2 * * *",
        "cluster_id": None, "config": {"query": "SELECT 1"}, "enabled": False}, {"schedule": None, "enabled": True}),
    "pipeline": Kind("/pipelines", PIPELINE, {
        "workspace_id": "$workspace", "name": "flow", "description": "d", "pipeline_graph": FLOW,
        "cloud_provider": "aws"}, {"description": "e", "cloud_provider": None}),
    "saved_query": Kind("/saved-queries", SAVED, {
        "name": "all", "description": "d", "query_text": "SELECT 1", "tags": ["a"], "is_favorite": True},
        {"is_favorite": False}),
    "etl_pipeline": Kind("/etl-pipelines", ETL, {
        "name": "etl", "description": "d", "mode": "visual", "workflow_data": {"nodes": [], "edges": []},
        "sources": [], "targets": [], "transformations": [], "cloud_services": [], "status": "draft"},
        {"mode": "form", "sources": [{"type": "s3"}]}),
    "repository": Kind("/repositories", REPOSITORY, {
        "provider": "generic", "name": "code", "url": "https://git.example.org/code.git", "branch": "main",
        "username": "ann", "access_token": "s3cr3t-of-it", "description": "d"}, {"branch": "next"}),
    "catalog": Kind("/data-catalog", CATALOG, {
        "workspace_id": "$workspace", "name": "sales", "catalog_type": "table", "schema_info": {"columns": []},
        "location": "s3://lake/sales", "cloud_profile_id": "$cloud_profile"}, {"location": "s3://lake/more"}),
}


class Things:
    """A user and, once asked for, one of everything."""

    def __init__(self, user):
        self.user, self.known = user, {}

    def __getitem__(self, name):
        if name not in self.known:
            self.known[name] = self.make(name)["id"]
        return self.known[name]

    def make(self, name):
        """Another one, as the server answers it."""
        kind = KINDS[name]
        return self.user.post(kind.path, self.fill(kind.body), expect=201)

    def fill(self, value):
        """With ids in the place of $names."""
        if isinstance(value, dict):
            return {name: self.fill(part) for name, part in value.items()}
        if isinstance(value, str) and value.startswith("$"):
            return self[value[1:]]
        return value

    def path(self, template):
        """/jobs/$job/run with ids."""
        return "/".join(self.fill(part) for part in template.split("/"))

    def cluster_until(self, cluster, status, patience=60):
        """The row once it has that status."""
        def there():
            row = self.user.get(f"/compute-clusters/{cluster}")
            return row if row["status"] == status else None
        return wait_for(there, f"a cluster that is {status}", patience, 0.1)
