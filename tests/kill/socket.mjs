// The line between a page and this harness: the few parts of a WebSocket server (RFC 6455) that it takes.

import { createHash } from 'node:crypto';

const key = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The start of a frame; browsers want the shortest form of a length. */
function headOf(length) {
  if (length < 126) return Buffer.from([0x81, length]);
  const head = Buffer.alloc(length < 65_536 ? 4 : 10);
  head[0] = 0x81;
  head[1] = length < 65_536 ? 126 : 127;
  if (length < 65_536) head.writeUInt16BE(length, 2);
  else head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

export class PageSocket {
  #socket;
  #bytes = Buffer.alloc(0);
  #parts = [];
  /** Called with every message, and at the end. */
  heard = () => {};
  ended = () => {};

  constructor(request, socket) {
    this.#socket = socket;
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + key).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.ended());
    socket.on('data', (bytes) => this.#read(bytes));
  }

  send(message) {
    const text = Buffer.from(JSON.stringify(message));
    if (!this.#socket.destroyed) this.#socket.write(Buffer.concat([headOf(text.length), text]));
  }

  close() {
    this.#socket.destroy();
  }

  #read(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (;;) {
      const buffer = this.#bytes;
      if (buffer.length < 2) return;
      const short = buffer[1] & 0x7f;
      const head = 2 + (short === 127 ? 8 : short === 126 ? 2 : 0);
      if (buffer.length < head + 4) return;
      const length = short === 127 ? Number(buffer.readBigUInt64BE(2)) : short === 126 ? buffer.readUInt16BE(2) : short;
      if (buffer.length < head + 4 + length) return;
      const mask = buffer.subarray(head, head + 4);
      const body = Buffer.from(buffer.subarray(head + 4, head + 4 + length));
      for (let i = 0; i < length; i++) body[i] ^= mask[i & 3];
      this.#bytes = buffer.subarray(head + 4 + length);
      this.#frame(buffer[0], body);
    }
  }

  #frame(first, body) {
    const operation = first & 0x0f;
    if (operation === 8) return this.#socket.end();
    // Pings and pongs: browsers send none by themselves.
    if (operation > 2) return;
    this.#parts.push(body);
    if (!(first & 0x80)) return;
    const text = Buffer.concat(this.#parts).toString();
    this.#parts = [];
    this.heard(JSON.parse(text));
  }
}
