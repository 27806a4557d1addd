"""The peer on Python: FastAPI, uvicorn, uvloop, asyncpg and PyJWT, as their manuals show them."""

import json
import os
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

COLUMNS = ("id, user_id, name, description, category, tags, icon, color, cloud_profile_id,"
           " provider, config, created_at, updated_at")
GET = f"SELECT {COLUMNS} FROM workspaces WHERE id = $1 AND user_id = $2"
INSERT = ("INSERT INTO workspaces (user_id, name, description, category, tags, icon, color,"
          " cloud_profile_id, provider, config) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
          f" RETURNING {COLUMNS}")
NOTE = "INSERT INTO events (ch, key, type, data) VALUES ($1, $2, $3, $4)"


class Fields(BaseModel):
    name: str = Field(min_length=1, max_length=255)
    description: str | None = None
    category: str | None = Field(None, max_length=255)
    tags: list[str] = []
    icon: str | None = None
    color: str | None = None
    cloud_profile_id: UUID | None = None
    provider: Literal["aws", "azure", "gcp"] | None = None
    config: dict = {}


class Workspace(Fields):
    id: UUID
    user_id: UUID
    created_at: datetime
    updated_at: datetime


async def prepare(connection):
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps,
                                    decoder=json.loads)


@asynccontextmanager
async def life(app):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=int(os.environ["POOL"]),
                                   init=prepare) as app.state.pool:
        yield


app = FastAPI(lifespan=life)


def caller(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]):
    try:
        return jwt.decode(credentials.credentials, os.environ["JWT_SECRET"], ["HS256"])["sub"]
    except jwt.InvalidTokenError:
        raise HTTPException(401, "authentication required") from None


Caller = Annotated[str, Depends(caller)]


async def insert(connection, user, fields):
    return await connection.fetchrow(
        INSERT, user, fields.name, fields.description, fields.category, fields.tags, fields.icon,
        fields.color, fields.cloud_profile_id, fields.provider, fields.config)


@app.get("/workspaces/{workspace}", response_model=Workspace)
async def workspace_get(workspace: UUID, user: Caller):
    row = await app.state.pool.fetchrow(GET, workspace, user)
    if row is None:
        raise HTTPException(404, "workspace not found")
    return dict(row)


@app.post("/workspaces", response_model=Workspace, status_code=201)
async def workspace_create(fields: Fields, user: Caller):
    return dict(await insert(app.state.pool, user, fields))


@app.post("/workspaces-and-event", response_model=Workspace, status_code=201)
async def workspace_create_and_tell(fields: Fields, user: Caller):
    async with app.state.pool.acquire() as connection, connection.transaction():
        row = Workspace(**await insert(connection, user, fields))
        await connection.execute(NOTE, f"user:{row.user_id}/workspaces", str(row.id),
                                 "workspace.created", row.model_dump(mode="json"))
    return row
