import { describe, expect, it } from 'vitest';
import { Mmsg, mmsg } from '../support/mmsg.ts';

/** A number of the table, without its separators. */
function row(text: string, name: string): number {
  return Number(new RegExp(`^ {2}${name} +([\\d,.]+)`, 'm').exec(text)?.[1]?.replaceAll(',', ''));
}

describe('mmsg demo', () => {
  it('receives all that it sends, tens of thousands a second, and says so', async () => {
    const startedAt = performance.now();
    const { code, stdout, stderr } = await mmsg(['demo']);
    const text = stdout.toString();
    expect(stderr).toBe('');
    expect(row(text, 'received')).toBe(row(text, 'sent'));
    expect(row(text, 'sent')).toBeGreaterThan(20_000);
    expect(row(text, 'mean batch')).toBeGreaterThan(10);
    expect(row(text, 'syscalls')).toBeLessThan(row(text, 'sent') / 10);
    expect(text).toContain('Every metric that was sent was received.');
    expect(text).not.toContain('\u001B'); // no terminal, no control sequences
    expect(text.match(/metrics · /g)?.length).toBeGreaterThan(1);
    expect(code).toBe(0);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });

  it('ends early on Ctrl-C, with an account that is right all the same', async () => {
    const demo = new Mmsg(['demo']);
    await new Promise((resolve) => demo.child.stdout.once('data', resolve));
    demo.child.kill('SIGINT');
    const { code, stdout } = await demo.ended;
    const text = stdout.toString();
    expect(row(text, 'received')).toBe(row(text, 'sent'));
    expect(code).toBe(130);
  });
});
