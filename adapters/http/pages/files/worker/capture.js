// Passes on what is captured, in the AudioWorklet.

/** Sends blocks of what it hears to its port: arrays of channels, without a copy for each listener. */
class Capture extends AudioWorkletProcessor {
  /**
   * @param {Float32Array[][]} inputs
   * @returns {boolean}
   */
  process(inputs) {
    const [channels] = inputs;
    if (channels.length) this.port.postMessage(channels.map((channel) => channel.slice()));
    return true;
  }
}

registerProcessor("capture", Capture);
