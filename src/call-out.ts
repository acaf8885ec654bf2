/** Talking to the user's code, and letting it wait. */

/** What `node:async_hooks` calls a wait of ours. Each is an AsyncResource of its own, for `AsyncResource.bind` costs 1 us more. */
export const RESOURCE = 'rx-sendmmsg';

/** As `Promise.withResolvers` gives it. */
export interface PromiseWithResolvers {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** `Promise.withResolvers`, which Node 20 has not. */
export function withResolvers(): PromiseWithResolvers {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** Calls the observer. What it throws is thrown outside, as RxJS does it: no flush and no end may stop half-way. */
export function callOut(call: () => void): void {
  try {
    call();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
