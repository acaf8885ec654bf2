import { describe, expect, it } from 'vitest';
import { type Comparison, orderOf, renderComparisons, renderVerdict, verdictOf } from '../../benchmarks/paired.ts';

/** What each round took here, and there. */
function comparison(sender: string, here: number[], there: number[], more: Partial<Comparison> = {}): Comparison {
  const pairs = here.map((value, round) => ({ here: value, there: there[round]! }));
  return { workload: 'flood-64', sender, cpu: 'main thread', pairs, ...more };
}

describe('pairs', () => {
  it('are begun by each side as often as by the other', () => {
    expect([0, 1, 2, 3].map(orderOf)).toEqual([
      ['here', 'there'],
      ['there', 'here'],
      ['here', 'there'],
      ['there', 'here'],
    ]);
  });

  it.each([
    ['the same', [100, 100, 100], [100, 100, 100], { ratio: 1, low: 1, high: 1, isSlower: false }],
    ['faster', [50, 50], [100, 100], { ratio: 0.5, isSlower: false }],
    ['slower by just 5 %', [105, 105, 105], [100, 100, 100], { ratio: 1.05, isSlower: false }],
    ['slower by more', [106, 106, 106], [100, 100, 100], { ratio: 1.06, isSlower: true }],
    ['an even number: between the middle two', [100, 104, 108, 200], [100, 100, 100, 100], { ratio: 1.06 }],
    ['one disturbed round says nothing', [100, 100, 900], [100, 100, 100], { ratio: 1, isSlower: false }],
    // By the medians of both sides it is faster here; but the machine changed its speed meanwhile.
    ['paired, not pooled', [330, 220, 110, 200], [300, 200, 100, 240], { here: 210, there: 220, ratio: 1.1 }],
    ['quartiles', [90, 100, 110, 120, 130], Array(5).fill(100), { low: 1, ratio: 1.1, high: 1.2, isSlower: true }],
    ['nothing measured is no proof', [], [], { isSlower: true }],
  ])('%s', (_, here, there, expected) => {
    const verdict = verdictOf(comparison('', here, there));
    for (const [name, value] of Object.entries(expected)) {
      const actual = verdict[name as keyof typeof verdict];
      if (typeof value === 'number') expect(actual, name).toBeCloseTo(value, 10);
      else expect(actual, name).toBe(value);
    }
  });
});

describe('the tables', () => {
  const same = comparison('rx-sendmmsg', [70.04, 70.04], [70.04, 70.04]);
  const slower = comparison('rx-sendmmsg, offload', [1100, 1200, 1300], [1000, 1000, 1000], { cpu: 'process' });
  const failed = comparison('rx-sendmmsg, packed', [], []);

  it('have a line for each sender, and mark those that are slower', () => {
    expect(renderComparisons([same, slower, failed]).split('\n')).toEqual([
      '### flood-64',
      '',
      '| sender | CPU time of | ns here | ns there | here / there | quartiles |',
      '| --- | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg | main thread | 70.0 | 70.0 | 1.000 | 1.000 to 1.000 |',
      '| rx-sendmmsg, offload | process | 1200 | 1000 | **1.200** | 1.150 to 1.250 |',
      '| rx-sendmmsg, packed | main thread | - | - | **-** | - to - |',
    ]);
  });

  it.each([
    ['none', [same], 'None of 1 is more than 5 % slower here.'],
    [
      'some',
      [same, slower, failed],
      'More than 5 % slower here, 2 of 3:\n\n- flood-64, rx-sendmmsg, offload: 1.200\n- flood-64, rx-sendmmsg, packed: -',
    ],
  ])('say which are slower: %s', (_, comparisons, text) => {
    expect(renderVerdict(comparisons)).toBe(text);
  });
});
