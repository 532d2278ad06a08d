// Encodes FLAC (RFC 9639): fixed predictors, partitioned Rice codes, stereo by what is smallest.

const BLOCK = 4096;
const BITS = 16;
const MAX_ORDER = 4;
const MAX_PARTITION_ORDER = 6;
/** A parameter of 4 bits that means something else; longer ones have 5 bits. */
const ESCAPE = 15;
const MAX_PARAMETER = 30;
/** @type {Record<number, number>} rates that a frame's header names; the others are in STREAMINFO */
const RATES = { 8000: 4, 16000: 5, 22050: 6, 24000: 7, 32000: 8, 44100: 9, 48000: 10, 96000: 11 };
const CRC8 = crcTable(8, 0x07);
const CRC16 = crcTable(16, 0x8005);

/**
 * How a subframe is written.
 *
 * @typedef {object} Plan
 * @property {Int32Array} samples
 * @property {number} width bits of a sample
 * @property {"constant" | "verbatim" | "fixed"} kind
 * @property {number} bits at most so many are written
 * @property {number} order of the predictor
 * @property {Int32Array} residual
 * @property {number} partitionOrder
 * @property {number[]} parameters of Rice, one a partition
 */

/**
 * Returns a FLAC file. Its MD5 is zero: it says nothing.
 *
 * @param {Int16Array} pcm a frame has one sample per channel
 * @param {number} rateHz
 * @param {number} channels 1 or 2
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encode(pcm, rateHz, channels) {
  const length = pcm.length / channels;
  const out = new Bits(pcm.length * 2 + 64 + 32 * Math.ceil(length / BLOCK));
  for (const byte of [0x66, 0x4c, 0x61, 0x43, 0x80, 0, 0, 34]) out.put(byte, 8);
  out.put(BLOCK, 16);
  out.put(BLOCK, 16);
  for (let n = 0; n < 6; n++) out.put(0, 8); // sizes of frames are not told
  out.put(rateHz, 20);
  out.put(channels - 1, 3);
  out.put(BITS - 1, 5);
  out.put(Math.floor(length / 2 ** 32), 4);
  out.put((length >>> 16) & 0xffff, 16);
  out.put(length & 0xffff, 16);
  for (let n = 0; n < 16; n++) out.put(0, 8);
  for (let start = 0, number = 0; start < length; start += BLOCK, number++) {
    const size = Math.min(BLOCK, length - start);
    const split = Array.from({ length: channels }, (_, channel) => {
      const samples = new Int32Array(size);
      for (let n = 0, from = start * channels + channel; n < size; n++, from += channels)
        samples[n] = pcm[from];
      return samples;
    });
    putFrame(out, number, rateHz, split);
  }
  return out.done();
}

/**
 * @param {Bits} out
 * @param {number} number
 * @param {number} rateHz
 * @param {Int32Array[]} channels
 */
function putFrame(out, number, rateHz, channels) {
  const begin = out.length;
  const size = channels[0].length;
  const { assignment, plans } = planOf(channels);
  out.put(0xfff8, 16);
  out.put(size === BLOCK ? 12 : 7, 4);
  out.put(RATES[rateHz] ?? 0, 4);
  out.put(assignment, 4);
  out.put(4, 3); // 16 bits
  out.put(0, 1);
  putNumber(out, number);
  if (size !== BLOCK) out.put(size - 1, 16);
  out.put(out.crc(CRC8, 8, begin), 8);
  for (const plan of plans) putSubframe(out, plan);
  out.align();
  out.put(out.crc(CRC16, 16, begin), 16);
}

/**
 * Puts a number as UTF-8 does.
 *
 * @param {Bits} out
 * @param {number} number below 2^16
 */
function putNumber(out, number) {
  if (number < 0x80) {
    out.put(number, 8);
  } else if (number < 0x800) {
    out.put(0xc0 | (number >> 6), 8);
    out.put(0x80 | (number & 0x3f), 8);
  } else {
    out.put(0xe0 | (number >> 12), 8);
    out.put(0x80 | ((number >> 6) & 0x3f), 8);
    out.put(0x80 | (number & 0x3f), 8);
  }
}

/**
 * @param {Int32Array[]} channels
 * @returns {{ assignment: number, plans: Plan[] }} `assignment`: how the channels are written
 */
function planOf(channels) {
  const plans = channels.map((samples) => plan(samples, BITS));
  if (plans.length !== 2) return { assignment: plans.length - 1, plans };
  const [left, right] = channels;
  const middle = plan(
    left.map((value, n) => (value + right[n]) >> 1),
    BITS,
  );
  const side = plan(
    left.map((value, n) => value - right[n]),
    BITS + 1,
  );
  const ways = [
    { assignment: 1, plans },
    { assignment: 8, plans: [plans[0], side] },
    { assignment: 9, plans: [side, plans[1]] },
    { assignment: 10, plans: [middle, side] },
  ];
  const bits = ways.map((way) => way.plans[0].bits + way.plans[1].bits);
  return ways[bits.indexOf(Math.min(...bits))];
}

/**
 * @param {Int32Array} samples
 * @param {number} width bits of a sample
 * @returns {Plan}
 */
function plan(samples, width) {
  const none = { order: 0, residual: samples, partitionOrder: 0, parameters: [] };
  if (samples.every((value) => value === samples[0]))
    return { samples, width, kind: "constant", bits: width, ...none };
  const { order, residual } = predicted(samples);
  const coded = codes(residual, order);
  const bits = order * width + coded.bits;
  if (bits >= samples.length * width)
    return { samples, width, kind: "verbatim", bits: samples.length * width, ...none };
  return { samples, width, kind: "fixed", order, residual, ...coded, bits };
}

/**
 * Returns the predictor with the least residual.
 *
 * @param {Int32Array} samples
 */
function predicted(samples) {
  let residual = samples;
  let best = { order: 0, residual, sum: magnitude(residual) };
  for (let order = 1; order <= Math.min(MAX_ORDER, samples.length - 1); order++) {
    // each order is the difference of the one before
    const next = new Int32Array(samples.length);
    for (let n = order; n < samples.length; n++) next[n] = residual[n] - residual[n - 1];
    residual = next;
    const sum = magnitude(residual);
    if (sum < best.sum) best = { order, residual, sum };
  }
  return best;
}

/** @param {Int32Array} values */
function magnitude(values) {
  let sum = 0;
  for (const value of values) sum += value < 0 ? -value : value;
  return sum;
}

/**
 * Chooses the partitions of a residual and their parameters.
 *
 * @param {Int32Array} residual
 * @param {number} order so many at its beginning are no residual
 */
function codes(residual, order) {
  const size = residual.length;
  let partitionOrder = 0;
  while (
    partitionOrder < MAX_PARTITION_ORDER &&
    size % (2 << partitionOrder) === 0 &&
    size >> (partitionOrder + 1) > order
  )
    partitionOrder++;
  const part = size >> partitionOrder;
  let sums = Array.from({ length: 1 << partitionOrder }, (_, index) => {
    let sum = 0;
    for (let n = index ? index * part : order; n < (index + 1) * part; n++)
      sum += folded(residual[n]);
    return sum;
  });
  let best = { bits: Infinity, partitionOrder: 0, parameters: /** @type {number[]} */ ([]) };
  for (; ; partitionOrder--) {
    const count = size >> partitionOrder;
    const parameters = sums.map((sum, index) => parameterOf(sum, count - (index ? 0 : order)));
    const own = parameters.some((parameter) => parameter >= ESCAPE) ? 5 : 4;
    const bits = sums.reduce(
      (total, sum, index) =>
        total + own + bitsOf(sum, count - (index ? 0 : order), parameters[index]),
      6,
    );
    if (bits < best.bits) best = { bits, partitionOrder, parameters };
    if (!partitionOrder) return best;
    sums = sums.flatMap((sum, index) => (index % 2 ? [] : [sum + sums[index + 1]]));
  }
}

/**
 * @param {number} sum of folded residuals
 * @param {number} count
 */
function parameterOf(sum, count) {
  let parameter = 0;
  while (
    parameter < MAX_PARAMETER &&
    bitsOf(sum, count, parameter + 1) <= bitsOf(sum, count, parameter)
  )
    parameter++;
  return parameter;
}

/**
 * Returns how many bits `count` residuals take, at most: a sum of quotients is not more than the
 * quotient of the sum.
 *
 * @param {number} sum
 * @param {number} count
 * @param {number} parameter
 */
function bitsOf(sum, count, parameter) {
  return count * (parameter + 1) + Math.floor(sum / 2 ** parameter);
}

/**
 * Makes positive and negative numbers positive ones: 0, -1, 1, -2, 2 …
 *
 * @param {number} value
 */
function folded(value) {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

/**
 * @param {Bits} out
 * @param {Plan} plan
 */
function putSubframe(out, { samples, width, kind, order, residual, partitionOrder, parameters }) {
  const type = { constant: 0, verbatim: 1, fixed: 8 + order }[kind];
  out.put(type << 1, 8);
  const plain = { constant: 1, verbatim: samples.length, fixed: order }[kind];
  for (let n = 0; n < plain; n++) out.put(samples[n] & (2 ** width - 1), width);
  if (kind !== "fixed") return;
  const own = parameters.some((parameter) => parameter >= ESCAPE) ? 5 : 4;
  out.put(own - 4, 2);
  out.put(partitionOrder, 4);
  const part = samples.length >> partitionOrder;
  parameters.forEach((parameter, index) => {
    out.put(parameter, own);
    for (let n = index ? index * part : order; n < (index + 1) * part; n++)
      out.rice(folded(residual[n]), parameter);
  });
}

/** Bits, the highest first. */
class Bits {
  #bytes;
  #held = 0;
  #count = 0;
  /** Whole bytes. */
  length = 0;

  /** @param {number} size bytes, at first */
  constructor(size) {
    this.#bytes = new Uint8Array(size);
  }

  /**
   * @param {number} value
   * @param {number} count at most 24 bits
   */
  put(value, count) {
    this.#held = (this.#held << count) | value;
    this.#count += count;
    while (this.#count >= 8) {
      this.#count -= 8;
      this.#bytes[this.length++] = this.#held >>> this.#count;
    }
    this.#held &= (1 << this.#count) - 1;
  }

  /**
   * @param {number} value
   * @param {number} parameter
   */
  rice(value, parameter) {
    let quotient = value >>> parameter;
    for (; quotient >= 24; quotient -= 24) this.put(0, 24);
    this.put(1, quotient + 1);
    if (parameter > 16) this.put((value >>> 16) & ((1 << (parameter - 16)) - 1), parameter - 16);
    const low = Math.min(parameter, 16);
    if (low) this.put(value & ((1 << low) - 1), low);
  }

  align() {
    if (this.#count) this.put(0, 8 - this.#count);
  }

  /**
   * @param {Uint16Array} table
   * @param {number} width
   * @param {number} from the first byte
   */
  crc(table, width, from) {
    const shift = width - 8;
    let crc = 0;
    for (let n = from; n < this.length; n++)
      crc = ((crc << 8) ^ table[(crc >> shift) ^ this.#bytes[n]]) & (2 ** width - 1);
    return crc;
  }

  done() {
    return this.#bytes.slice(0, this.length);
  }
}

/**
 * @param {number} width
 * @param {number} polynomial
 */
function crcTable(width, polynomial) {
  return Uint16Array.from({ length: 256 }, (_, byte) => {
    let crc = byte << (width - 8);
    for (let n = 0; n < 8; n++) crc = crc & (1 << (width - 1)) ? (crc << 1) ^ polynomial : crc << 1;
    return crc & (2 ** width - 1);
  });
}
