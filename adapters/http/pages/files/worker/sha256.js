// SHA-256 (FIPS 180-4), in steps: the browser's own digest wants everything at once.

const K = constants();
const ZEROS = new Uint8Array(65_536);

/** Hashes what it is given, as far as it has got it. */
export class Sha256 {
  #state = Int32Array.of(
    0x6a09e667,
    0xbb67ae85,
    0x3c6ef372,
    0xa54ff53a,
    0x510e527f,
    0x9b05688c,
    0x1f83d9ab,
    0x5be0cd19,
  );
  #words = new Int32Array(64);
  #block = new Uint8Array(64);
  #filled = 0;
  #length = 0;

  /** @param {Uint8Array} bytes */
  update(bytes) {
    let at = 0;
    this.#length += bytes.length;
    if (this.#filled) {
      at = Math.min(64 - this.#filled, bytes.length);
      this.#block.set(bytes.subarray(0, at), this.#filled);
      this.#filled += at;
      if (this.#filled < 64) return;
      this.#compress(this.#block, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
    this.#filled = bytes.length - at;
  }

  /** @param {number} count bytes of zero */
  zeros(count) {
    for (; count > 0; count -= ZEROS.length)
      this.update(ZEROS.subarray(0, Math.min(count, ZEROS.length)));
  }

  /**
   * Returns the hash of what has come until now; more may come.
   *
   * @returns {Uint8Array} 32 bytes
   */
  digest() {
    const state = this.#state.slice();
    const length = this.#length;
    const end = new Uint8Array(this.#filled < 56 ? 64 : 128);
    end.set(this.#block.subarray(0, this.#filled));
    end[this.#filled] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(length / 0x2000_0000));
    view.setUint32(end.length - 4, (length * 8) >>> 0);
    for (let at = 0; at < end.length; at += 64) this.#compress(end, at);
    const digest = new Uint8Array(32);
    this.#state.forEach((word, n) => new DataView(digest.buffer).setInt32(4 * n, word));
    this.#state = state;
    return digest;
  }

  /** @returns {string} the hash of what has come until now, in 64 hexadecimal digits */
  hex() {
    return Array.from(this.digest(), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /**
   * @param {Uint8Array} bytes
   * @param {number} at where 64 bytes begin
   */
  #compress(bytes, at) {
    const w = this.#words;
    for (let n = 0; n < 16; n++, at += 4)
      w[n] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    for (let n = 16; n < 64; n++) {
      const x = w[n - 15];
      const y = w[n - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[n] = (w[n - 16] + s0 + w[n - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = this.#state;
    for (let n = 0; n < 64; n++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[n] + w[n]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    const state = this.#state;
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

/** The fractions of the cube roots of the first 64 primes, 32 bits of each. */
function constants() {
  const found = new Int32Array(64);
  /** @type {number[]} */
  const primes = [];
  for (let n = 2; primes.length < 64; n++)
    if (primes.every((prime) => n % prime)) {
      found[primes.length] = cubeRootBits(n);
      primes.push(n);
    }
  return found;
}

/** @param {number} n */
function cubeRootBits(n) {
  // floor(cbrt(n) × 2³²) exactly: a float has too few bits to cube it
  const target = BigInt(n) << 96n;
  let low = 0n;
  for (let bit = 1n << 35n; bit; bit >>= 1n) {
    const tried = low | bit;
    if (tried * tried * tried <= target) low = tried;
  }
  return Number(BigInt.asIntN(32, low));
}
