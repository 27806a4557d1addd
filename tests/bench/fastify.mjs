//  The peer on Node: Fastify, @fastify/jwt and pg, as their manuals show them, with prepared
//  statements and a response schema.

import Fastify from 'fastify';
import jwt from '@fastify/jwt';
import pg from 'pg';

const pool = new pg.Pool({
    connectionString: process.env.DATABASE_URL, max: Number(process.env.POOL) });
const app = Fastify({ logger: false });
await app.register(jwt, {
    secret: process.env.JWT_SECRET, verify: { algorithms: ['HS256'] } });
app.addHook('onRequest', (request) => request.jwtVerify());

const text = { type: ['string', 'null'] };
const time = { type: 'string', format: 'date-time' };
const workspace = {
    type: 'object',
    properties: {
        id: { type: 'string' }, user_id: { type: 'string' }, name: { type: 'string' },
        description: text, category: text, tags: { type: 'array', items: { type: 'string' } },
        icon: text, color: text, cloud_profile_id: text, provider: text,
        config: { type: 'object', additionalProperties: true },
        created_at: time, updated_at: time } };
const fields = {
    type: 'object',
    required: ['name'],
    properties: {
        name: { type: 'string', minLength: 1, maxLength: 255 }, description: text,
        category: { type: ['string', 'null'], maxLength: 255 },
        tags: { type: 'array', items: { type: 'string' }, default: [] },
        icon: text, color: text, cloud_profile_id: text,
        provider: { type: 'string', enum: ['aws', 'azure', 'gcp'], nullable: true },
        config: { type: 'object', additionalProperties: true, default: {} } } };

const columns = `id, user_id, name, description, category, tags, icon, color, cloud_profile_id,
    provider, config, created_at, updated_at`;
const get = `SELECT ${columns} FROM workspaces WHERE id = $1 AND user_id = $2`;
const insert = `INSERT INTO workspaces (user_id, name, description, category, tags, icon, color,
    cloud_profile_id, provider, config) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING ${columns}`;
const note = 'INSERT INTO events (ch, key, type, data) VALUES ($1, $2, $3, $4)';

const insertion = (user, body) => ({
    name: 'insert', text: insert,
    values: [user, body.name, body.description, body.category, JSON.stringify(body.tags), body.icon,
        body.color, body.cloud_profile_id, body.provider, body.config] });

app.get('/workspaces/:id', { schema: { response: { 200: workspace } } }, async (request, reply) => {
    const { rows } = await pool.query({
        name: 'get', text: get, values: [request.params.id, request.user.sub] });
    if (rows.length === 0)
        return reply.code(404).send({ error: 'workspace not found' });
    return rows[0];
});

const schema = { body: fields, response: { 201: workspace } };

app.post('/workspaces', { schema }, async (request, reply) => {
    const { rows } = await pool.query(insertion(request.user.sub, request.body));
    return reply.code(201).send(rows[0]);
});

app.post('/workspaces-and-event', { schema }, async (request, reply) => {
    const client = await pool.connect();
    try {
        await client.query('BEGIN');
        const { rows: [row] } = await client.query(insertion(request.user.sub, request.body));
        await client.query({ name: 'note', text: note,
            values: [`user:${row.user_id}/workspaces`, row.id, 'workspace.created', row] });
        await client.query('COMMIT');
        return reply.code(201).send(row);
    } catch (error) {
        await client.query('ROLLBACK');
        throw error;
    } finally {
        client.release();
    }
});

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
console.log('ready');
