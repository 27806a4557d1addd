//  The peer for fan-out: npm `ws`, as its manual shows a broadcast. A change comes by HTTP and goes
//  as an event of the same shape and size to every client; nothing is kept, nobody is asked who.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { WebSocketServer, WebSocket } from 'ws';

let off = 0;
const user = randomUUID();

const server = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
        const fields = JSON.parse(Buffer.concat(parts).toString());
        const id = randomUUID();
        const at = new Date().toISOString();
        const row = { id, user_id: user, ...fields, category: null, tags: [], color: null,
                      cloud_profile_id: null, provider: null, config: {},
                      created_at: at, updated_at: at };
        const event = { ch: `user:${user}/workspaces`, off: off + 1, prev: off, key: id,
                        type: 'workspace.created', at, data: row };
        off += 1;
        const data = JSON.stringify(event);
        for (const client of sockets.clients)
            if (client.readyState === WebSocket.OPEN)
                client.send(data);
        const body = JSON.stringify(row);
        response.writeHead(201, { 'content-type': 'application/json',
                                  'content-length': Buffer.byteLength(body) });
        response.end(body);
    });
});

const sockets = new WebSocketServer({ server, path: '/ws', perMessageDeflate: false });
sockets.on('connection', (socket) => {
    socket.on('message', (data) => {
        const { id, ...rest } = JSON.parse(data.toString());
        if (id !== undefined)
            socket.send(JSON.stringify({ id, ...rest }));
    });
});

server.listen(Number(process.env.PORT), '127.0.0.1');
