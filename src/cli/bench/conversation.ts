/** A process that answers lines on its stdin with lines of JSON. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface Conversation {
  /** Its next line, which may answer nothing. */
  next(): Promise<unknown>;
  ask(line: string): Promise<unknown>;
  /** Ends its stdin, and waits until it has ended, too. */
  end(): Promise<void>;
}

export function converse(command: readonly string[]): Conversation {
  const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.stdin.on('error', () => {}); // it has ended: told by the next line, which is missing
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command.slice(0, 3).join(' ')} has ended`);
    return JSON.parse(value);
  };
  return {
    next,
    ask(line) {
      child.stdin.write(`${line}\n`);
      return next();
    },
    end() {
      child.stdin.end();
      return ended;
    },
  };
}
