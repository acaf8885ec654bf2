/** Sockets and receivers that a test opens and need not close. */
import { afterEach } from 'vitest';

interface Closable {
  close(): void;
}

/** Hands back what it is given, and closes it after the test. */
export function keeper(): <T extends Closable>(resource: T) => T {
  const open: Closable[] = [];
  afterEach(() => {
    for (const resource of open.splice(0)) resource.close();
  });
  return (resource) => {
    open.push(resource);
    return resource;
  };
}
