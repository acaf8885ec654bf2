/* The ceiling: the same workloads in C. Prints one JSON line, as the other senders do.
 *
 *   sender plain|gso PORT BYTES SECONDS DESTINATIONS VLEN
 *
 * plain: sendmmsg(2) with VLEN datagrams a call. gso: 64 segments a message, 16 messages a call.
 * DESTINATIONS > 1: connected to nothing, the datagrams go round 127.0.0.1:PORT on 127.1.x.y source-like addresses
 * (all of 127/8 is local, and a socket bound to 0.0.0.0 receives for all of it).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define MAX_VLEN 1024

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static double busy(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  int gso = strcmp(argv[1], "gso") == 0;
  int port = atoi(argv[2]), bytes = atoi(argv[3]), destinations = atoi(argv[5]), vlen = atoi(argv[6]);
  double seconds = atof(argv[4]);
  int segments = gso ? (65507 / bytes < 64 ? 65507 / bytes : 64) : 1;
  if (gso) vlen = 1024 / 64;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in *to = calloc(destinations, sizeof *to);
  for (int i = 0; i < destinations; i++) {
    to[i].sin_family = AF_INET;
    to[i].sin_port = htons(port);
    to[i].sin_addr.s_addr = htonl(destinations == 1 ? 0x7f000001 : 0x7f010000 + i);
  }
  char *payload = malloc((size_t)bytes * segments);
  memset(payload, 'x', (size_t)bytes * segments);
  static struct mmsghdr messages[MAX_VLEN];
  static struct iovec vectors[MAX_VLEN];
  static char controls[MAX_VLEN][CMSG_SPACE(sizeof(unsigned short))] __attribute__((aligned(8)));
  for (int i = 0; i < vlen; i++) {
    vectors[i].iov_base = payload;
    vectors[i].iov_len = (size_t)bytes * segments;
    struct msghdr *header = &messages[i].msg_hdr;
    header->msg_iov = &vectors[i];
    header->msg_iovlen = 1;
    header->msg_namelen = sizeof *to;
    if (!gso) continue;
    header->msg_control = controls[i];
    header->msg_controllen = sizeof controls[i];
    struct cmsghdr *c = CMSG_FIRSTHDR(header);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(unsigned short));
    *(unsigned short *)CMSG_DATA(c) = bytes;
  }
  long datagrams = 0, calls = 0;
  int next = 0;
  double start = now(), busy_start = busy(), end = start + seconds, t = start;
  while (t < end) {
    for (int k = 0; k < 16; k++) {
      for (int i = 0; i < vlen; i++) {
        messages[i].msg_hdr.msg_name = &to[next];
        if (++next == destinations) next = 0;
      }
      int n = sendmmsg(fd, messages, vlen, MSG_DONTWAIT);
      calls++;
      if (n > 0) datagrams += (long)n * segments;
      else if (errno != EAGAIN) { perror("sendmmsg"); return 1; }
    }
    t = now();
  }
  printf("{\"datagrams\":%ld,\"seconds\":%.9f,\"busySeconds\":%.9f,\"syscalls\":%ld}\n", datagrams, t - start,
         busy() - busy_start, calls);
  return 0;
}
