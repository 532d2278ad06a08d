// What an AudioWorkletGlobalScope has (https://www.w3.org/TR/webaudio/#AudioWorkletGlobalScope).
declare const sampleRate: number;
declare const currentFrame: number;
declare const currentTime: number;
declare abstract class AudioWorkletProcessor {
  readonly port: MessagePort;
  constructor(options?: { processorOptions?: unknown });
  abstract process(
    inputs: Float32Array[][],
    outputs: Float32Array[][],
    parameters: Record<string, Float32Array>,
  ): boolean;
}
declare function registerProcessor(
  name: string,
  processor: new (options?: any) => AudioWorkletProcessor,
): void;
