// The header of a WAV of 16 bits.

const BYTES = 2; // of a sample

/**
 * @param {number} size bytes of sound
 * @param {number} sampleRate
 * @param {number} channels
 */
export function wavHeader(size, sampleRate, channels) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (/** @type {number} */ at, /** @type {string} */ name) =>
    [...name].forEach((letter, n) => header.setUint8(at + n, letter.charCodeAt(0)));
  // a longer file has a size that programs take for "until the end"
  const told = Math.min(size, 0xffff_ffff - 36);
  text(0, "RIFF");
  header.setUint32(4, told + 36, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, channels, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, sampleRate * channels * BYTES, true);
  header.setUint16(32, channels * BYTES, true);
  header.setUint16(34, BYTES * 8, true);
  text(36, "data");
  header.setUint32(40, told, true);
  return header.buffer;
}
