//  live.mjs -- events in order, none lost, none twice: the procedure of section 10.

//  A subscription: `onEvent`, `onGap`, and once `onReady`, when its position is known.
export class Feed {
    aside = []; busy = true;
    constructor(channel, epoch, off) {
        Object.assign(this, { channel, epoch: epoch ?? "", off });
    }
    read() {
        const [audience, name] = this.channel.split("/"), method = `${this.bus.owners.get(name)}.live.read`;
        this.busy = true;
        const body = { ch: this.channel, epoch: this.epoch, from: this.off ?? 0, limit: 300 };
        this.bus.call({ method, key: audience, ttl: 5000, body, done: (status, answer) => this.took(status, answer) });
    }
    took(status, { epoch, top, gap, events } = {}) {
        if (status === 503 || status === 504) return setTimeout(() => this.read(), 200);
        if (status !== 200) this.off = undefined;
        else if (this.off === undefined) this.epoch = epoch, this.off = top;
        else {
            if (gap) this.onGap(gap), this.off = gap.to;
            this.epoch = epoch;
            for (const event of events) if (event.off > this.off) this.take({ epoch, ...event });
            if (this.off < top) return this.read();
        }
        this.busy = false;
        this.onReady?.(), this.onReady = null;
        for (const event of this.aside.splice(0)) this.event(event);
    }
    take(event) {
        this.off = event.off || this.off, this.onEvent(event);
    }
    event(event) {
        if (event.off === 0) return this.take(event);
        if (this.busy) return this.aside.push(event);
        if (this.off === undefined) this.epoch = event.epoch, this.off = event.off - 1;
        if (event.epoch === this.epoch && event.off <= this.off) return;
        if (event.epoch === this.epoch && event.off === this.off + 1) return this.take(event);
        this.aside.push(event), this.read();
    }
}
