/**
 * Control messages: the UDP_SEGMENT one that a GSO slot carries, and the reading of UDP_GRO. See cmsg(3), udp(7).
 */
import { CMSG_LEVEL, CMSG_TYPE, CMSGHDR_SIZE, SOL_UDP, UDP_GRO, UDP_SEGMENT } from './abi.ts';

/** Bytes of a control buffer that holds one integer: CMSG_SPACE(2) = CMSG_SPACE(4) = 24. */
export const CONTROL_SIZE = 24;
/** Offset of the data behind a cmsghdr: CMSG_DATA. */
export const CMSG_DATA: number = CMSGHDR_SIZE;

/** Writes the UDP_SEGMENT header once; the segment size, a u16 at {@link CMSG_DATA}, changes from slot to slot. */
export function writeSegmentHeader(u32: Uint32Array, at: number): void {
  u32[at >>> 2] = CMSGHDR_SIZE + 2; // cmsg_len = CMSG_LEN(sizeof(u16)): an int is EINVAL
  u32[(at >>> 2) + 1] = 0;
  u32[(at + CMSG_LEVEL) >>> 2] = SOL_UDP;
  u32[(at + CMSG_TYPE) >>> 2] = UDP_SEGMENT;
}

/** The segment size that UDP_GRO reports in a received control buffer, bytes; 0 where the datagram was not merged. */
export function groSegmentSize(u32: Uint32Array, at: number, controlLength: number): number {
  if (controlLength < CMSGHDR_SIZE + 4) return 0;
  const isGro = u32[(at + CMSG_LEVEL) >>> 2] === SOL_UDP && u32[(at + CMSG_TYPE) >>> 2] === UDP_GRO;
  return isGro ? u32[(at + CMSG_DATA) >>> 2]! : 0;
}
