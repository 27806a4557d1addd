//  busbar.mjs -- a client of the bus as small as it can be, written from PROTOCOL.md alone.

import { randomBytes } from "node:crypto";
import { Encoder, ExtensionCodec, decodeMulti } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const HELLO = 1, WELCOME = 2, REFUSED = 3, DIRECTORY = 4, CLAIM = 5, CALL = 6, REPLY = 7, CHUNK = 8, CREDIT = 9,
    CANCEL = 10, SUBSCRIBE = 11, SUBSCRIBED = 12, UNSUBSCRIBE = 13, EVENT = 14, PING = 16, PONG = 17, GOODBYE = 18;
const extensionCodec = new ExtensionCodec(), word = () => randomBytes(4).toString("hex");
extensionCodec.register({ type: 1, encode: () => null, decode: data => JSON.parse(Buffer.from(data)) });
const encoder = new Encoder({ extensionCodec }), self = ["node", "node-" + word(), word()];
const uints = { [WELCOME]: [0, 2, 3], [REPLY]: [0, 1], [CHUNK]: [0], [SUBSCRIBED]: [0], [EVENT]: [2] };
const isUint = value => value == null || Number.isInteger(value) && value >= 0;
const fits = (number, fields) => (uints[number] ?? []).every(at => isUint(fields[at]));
const after = (ms, what) => setTimeout(what, ms).unref();

//  A DEALER: messages out in frames, frames in as messages. `take` and `down` are its owner's.
class Link {
    constructor(address, role, take, down) {
        Object.assign(this, { take, down, queue: [], silent: 0, calls: new Set(), credit: 64 });
        this.socket = new Dealer({ linger: 0, immediate: true, routingId: word() + word() });
        this.socket.events.on("disconnect", () => this.close());
        this.socket.connect(address);
        this.send(HELLO, 1, role, ...self);
        this.read();
    }
    async read() {
        for await (const [frame] of this.socket) {
            const size = frame.length, limits = { maxStrLength: size, maxArrayLength: size, maxMapLength: size };
            const messages = [];
            this.silent = 0;
            try {
                for (const one of decodeMulti(frame, { extensionCodec, ...limits })) messages.push(one);
            } catch { /* what came before the malformed message holds */ }
            for (const [number, ...fields] of messages)
                number === PING ? this.send(PONG, 0) : fits(number, fields) && this.take(number, fields);
        }
    }
    async send(...message) {
        this.queue.push(Buffer.from(encoder.encode(message)));
        while (this.queue.length && !this.sending) {
            this.sending = true;
            try { await this.socket.send(Buffer.concat(this.queue.splice(0))); } catch { /* closed meanwhile */ }
            this.sending = false;
        }
    }
    close() {
        if (!this.socket.closed) this.socket.close(), this.down();
    }
}

export function hash(text) {
    let h = 0xcbf29ce484222325n;
    for (const byte of Buffer.from(text)) h = BigInt.asUintN(64, (h ^ BigInt(byte)) * 0x100000001b3n);
    for (const by of [0xff51afd7ed558ccdn, 0xc4ceb9fe1a85ec53n]) h = BigInt.asUintN(64, (h ^ (h >> 33n)) * by);
    return h ^ (h >> 33n);
}

export class Bus {
    entries = new Map(); routes = new Map(); owners = new Map(); links = new Map();
    calls = new Map(); waiting = new Set(); feeds = new Map(); next = randomBytes(5).readUIntBE(0, 5);
    constructor(run, ready) {
        Object.assign(this, { run, ready });
        this.connect();
        this.beat(500);
    }
    connect() {
        const lost = () => this.left || (this.lost(this.broker), after(50, () => this.connect()));
        this.broker = new Link(`ipc://${this.run}/broker.s`, "client", (...of) => this.fromBroker(...of), lost);
    }
    beat(ms) {
        clearInterval(this.timer);
        this.timer = setInterval(() => {
            ++this.broker.silent > 8 ? this.broker.close() : this.broker.send(PING, 0);
        }, ms / 2);
    }
    fromBroker(number, f) {
        if (number === WELCOME) {
            this.beat(f[2] || 500);
            for (const feed of this.feeds.values()) this.broker.send(SUBSCRIBE, feed.id, feed.channel);
        } else if (number === REFUSED && f[0] === "UNKNOWN") this.broker.send(HELLO, 1, "client", ...self);
        else if (number === REFUSED && f[0] !== "UNAVAILABLE") throw process.exit(console.error(f[1]) ?? 1);
        else if (number === DIRECTORY) this.directory(f[1], f[2] ?? []);
        else if (number === CLAIM) this.claim(...f);
        else if (number === SUBSCRIBED) [...this.feeds.values()].find(feed => feed.id === f[0])?.read();
        else if (number === EVENT) this.feeds.get(f[0])?.event({ epoch: f[1], off: f[2], type: f[5], data: f[7] });
        else this.answer(this.broker, number, f);
    }
    directory(whole, list) {
        for (const entry of list) {
            const old = this.entries.get(entry.slot), gone = entry.state === "gone";
            if (old && (gone ? old.boot === entry.boot : old.boot !== entry.boot)) this.forget(old);
            if (gone) continue;
            const owns = new Set(entry.claims ?? old?.owns);
            this.entries.set(entry.slot, { ...this.entries.get(entry.slot), ...entry, owns, until: Infinity });
            for (const route of entry.routes ?? []) this.routes.set(route.method, route);
            for (const { name } of entry.channels ?? []) this.owners.set(name, entry.name);
        }
        const here = new Set(list.map(entry => entry.slot));
        for (const entry of whole ? this.entries.values() : []) if (!here.has(entry.slot)) after(3000, () => {
            if (this.entries.get(entry.slot) === entry) this.forget(entry);
        });
        if (whole && !this.whole) this.whole = true, this.ready();
        this.place();
    }
    forget(entry) {
        this.entries.delete(entry.slot);
        this.links.get(entry.endpoint)?.close();
    }
    claim(name, slot, boot, keys, release) {
        for (const entry of this.entries.values()) for (const key of entry.name === name ? keys : [])
            if (entry.slot !== slot || release) entry.slot !== slot && release || entry.owns.delete(key);
            else entry.owns.add(key);
    }
    link(entry) {
        if (!entry.endpoint) return this.broker;
        if (!this.links.has(entry.endpoint)) {
            const link = new Link(entry.endpoint, "caller", (...of) => this.answer(link, ...of), () => {
                this.links.delete(entry.endpoint);
                entry.state = "lost";
                this.lost(link);
            });
            this.links.set(entry.endpoint, link);
        }
        return this.links.get(entry.endpoint);
    }
    choose({ method, key }) {
        const all = [...this.entries.values()].filter(entry => entry.routes?.some(route => route.method === method));
        const up = all.filter(entry => entry.state === "up"), claimed = key && all.find(entry => entry.owns.has(key));
        if (claimed) return up.filter(entry => entry === claimed);
        const busy = entry => this.link(entry).calls.size;
        if (!key) return up.sort(() => Math.random() - 0.5).sort((a, b) => busy(a) - busy(b));
        const weight = new Map(up.map(entry => [entry, hash(`${entry.slot}\0${key}`)]));
        return up.sort((a, b) => weight.get(a) > weight.get(b) ? -1 : 1).slice(0, 1);
    }
    place() {
        for (const call of this.whole ? this.waiting : []) {
            if (!this.routes.has(call.method)) this.end(call, 404, { code: "NOT_FOUND", error: "no such method" });
            const link = this.choose(call).map(entry => this.link(entry)).find(one => one.calls.size < one.credit);
            if (!link || !this.waiting.delete(call)) continue;
            (call.link = link).calls.add(call.id);
            const { id, method, key = "", until, params = null, body = null } = call;
            link.send(CALL, id, method, key, Math.max(1, until - Date.now()), "", null, params, body);
            if (call.chunk) link.send(CREDIT, id, 16);
        }
    }
    //  {method, ttl, params?, body?, key?, done (status, body, outcome), chunk? (data, last, error)}
    call(call) {
        Object.assign(call, { id: ++this.next, until: Date.now() + call.ttl, sent: 0 });
        this.calls.set(call.id, call), this.waiting.add(call);
        call.timer = setTimeout(() => {
            const [status, code] = call.link ? [504, "TIMEOUT"] : [503, "UNAVAILABLE"];
            this.cancel(call), call.done(status, { code, error: "no answer in time" });
        }, call.ttl);
        this.place();
        return call;
    }
    cancel(call) {
        if (this.drop(call)) call.link?.send(CANCEL, call.id);
    }
    drop(call) {
        clearTimeout(call.timer);
        this.waiting.delete(call), call.link?.calls.delete(call.id);
        setImmediate(() => this.place());
        return this.calls.delete(call.id);
    }
    end(call, status, body = null, meta = null) {
        if (this.drop(call)) call.done(status, body, meta?.outcome);
    }
    lost(link) {
        for (const call of [...link.calls].map(id => this.calls.get(id))) {
            const route = this.routes.get(call.method), again = route.idempotent || route.verb === "GET";
            if (call.streaming) this.drop(call), call.chunk(null, true, "UNAVAILABLE");
            else if (!again || ++call.sent >= 3)
                this.end(call, 503, { code: "UNAVAILABLE", error: "the actor died" }, { outcome: "unknown" });
            else link.calls.delete(call.id), call.link = null, this.waiting.add(call);
        }
        this.place();
    }
    answer(link, number, [id, ...f]) {
        if (number === WELCOME) link.credit = f[2] || 1, this.place();
        const call = this.calls.get(id), streamed = number === REPLY && f[0] < 400 && f[2]?.stream;
        if (streamed && call?.chunk) clearTimeout(call.timer), call.streaming = true;
        else if (streamed && call) this.cancel(call), call.done(500, { code: "INTERNAL", error: "a stream came" });
        else if (number === REPLY && call) this.end(call, ...f);
        else if (number === CHUNK && call?.streaming) {
            f[1] ? this.drop(call) : link.send(CREDIT, id, 1);
            call.chunk(...f);
        }
    }
    subscribe(feed) {
        Object.assign(feed, { bus: this, id: ++this.next });
        this.feeds.set(feed.channel, feed), this.broker.send(SUBSCRIBE, feed.id, feed.channel);
    }
    unsubscribe(channel) {
        if (this.feeds.delete(channel)) this.broker.send(UNSUBSCRIBE, channel);
    }
    leave() {
        this.left = true, clearInterval(this.timer);
        return Promise.all([this.broker, ...this.links.values()].map(link => link.send(GOODBYE, "")));
    }
}
