/** What a worker is told to do. */
export interface ThreadPlan {
  readonly way: ThreadWay;
  readonly path: string;
  readonly generation: number;
  /** Two numbers: datagrams handed to the library, and those that a report has told of as sent. */
  readonly figures: SharedArrayBuffer;
}

export const THREAD_WAYS = ['sender', 'offload', 'lanes', 'unconnected', 'paced', 'operator', 'stream'] as const;
export type ThreadWay = (typeof THREAD_WAYS)[number];
