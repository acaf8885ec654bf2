/**
 * IP addresses as text: of all the ways to write one, the canonical.
 */

/** The 4 bytes of an IPv4 address. */
export function formatIPv4(bytes: Uint8Array): string {
  return bytes.join('.');
}

/**
 * The 16 bytes of an IPv6 address, as RFC 5952 has it: the longest run of zero groups is folded, the first of equals.
 */
export function formatIPv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, index) => (bytes[2 * index]! << 8) | bytes[2 * index + 1]!);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${formatIPv4(bytes.subarray(12))}`;
  }
  let [start, length] = [0, 1];
  for (let from = 0; from < 8; from++) {
    let to = from;
    while (to < 8 && groups[to] === 0) to++;
    if (to - from > length) [start, length] = [from, to - from];
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  return length < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}
