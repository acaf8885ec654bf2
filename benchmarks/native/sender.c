/* The ceiling: the same workloads in C. Prints one JSON line, as the other senders do.
 *
 *   sender plain|gso|gso-copy|gather-N PORT|PATH BYTES[,BYTES...] SECONDS DESTINATIONS VLEN
 *
 * plain: sendmmsg(2) with VLEN datagrams a call, of the given lengths in turn. gso: 64 segments a message, 16 messages a
 * call, all out of one buffer that is never written again: nothing is encoded. gso-copy: each datagram is first copied into
 * a place of its own, as a program has to that sends something. gather-N: N datagrams to each destination in one segmented message, whose
 * iovecs gather N payloads that all destinations share; VLEN messages a call.
 * DESTINATIONS > 1: the datagrams go round 127.1.x.y (all of 127/8 is local, and a socket bound to 0.0.0.0 receives for it).
 * PATH, if it has a slash: a unix socket, where the call blocks until there is room.
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
#include <sys/un.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define MAX_VLEN 1024
#define MAX_SEGMENTS 64
#define MAX_LENGTHS 64
#define MAX_GATHERED 16

static double clock_seconds(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Connects a unix socket; a UDP socket gets its destinations message by message. */
static int open_socket(const char *target) {
  if (strchr(target, '/') == NULL) return socket(AF_INET, SOCK_DGRAM, 0);
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  struct sockaddr_un peer = {.sun_family = AF_UNIX};
  strncpy(peer.sun_path, target, sizeof peer.sun_path - 1);
  return connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0 ? -1 : fd;
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  int gathered = sscanf(argv[1], "gather-%d", &gathered) == 1 && gathered <= MAX_GATHERED ? gathered : 0;
  int copies = strcmp(argv[1], "gso-copy") == 0, gso = copies || gathered || strcmp(argv[1], "gso") == 0;
  int is_unix = strchr(argv[2], '/') != NULL;
  double seconds = atof(argv[4]);
  int destinations = atoi(argv[5]), vlen = gso && !gathered ? MAX_VLEN / MAX_SEGMENTS : atoi(argv[6]);
  int lengths[MAX_LENGTHS], count = 0, longest = 0;
  for (char *at = strtok(argv[3], ","); at != NULL && count < MAX_LENGTHS; at = strtok(NULL, ",")) {
    lengths[count] = atoi(at);
    if (lengths[count++] > longest) longest = lengths[count - 1];
  }
  int segments = gathered ? gathered : !gso ? 1 : 65507 / longest < MAX_SEGMENTS ? 65507 / longest : MAX_SEGMENTS;

  int fd = open_socket(argv[2]);
  if (fd < 0) return perror(argv[2]), 1;
  struct sockaddr_in *to = calloc(destinations, sizeof *to);
  for (int i = 0; i < destinations; i++) {
    to[i].sin_family = AF_INET;
    to[i].sin_port = htons(atoi(argv[2]));
    to[i].sin_addr.s_addr = htonl(destinations == 1 ? 0x7f000001 : 0x7f010000 + i);
  }
  /* Copies go to one slab for all messages; else all messages share one buffer. */
  size_t stride = (size_t)longest * segments;
  char *slab = malloc(copies ? stride * vlen : stride), *payload = malloc(longest);
  memset(slab, 'x', copies ? stride * vlen : stride);
  memset(payload, 'x', longest);
  static struct mmsghdr messages[MAX_VLEN];
  static struct iovec vectors[MAX_VLEN * MAX_GATHERED];
  static char controls[MAX_VLEN][CMSG_SPACE(sizeof(unsigned short))] __attribute__((aligned(8)));
  for (int i = 0; i < vlen; i++) {
    struct iovec *vector = &vectors[i * (gathered ? gathered : 1)];
    vector->iov_base = copies ? slab + stride * i : slab;
    vector->iov_len = gso ? stride : (size_t)lengths[i % count];
    for (int k = 0; k < gathered; k++) vector[k] = (struct iovec){slab + (size_t)longest * k, longest};
    struct msghdr *header = &messages[i].msg_hdr;
    header->msg_iov = vector;
    header->msg_iovlen = gathered ? gathered : 1;
    header->msg_namelen = is_unix ? 0 : sizeof *to;
    if (!gso) continue;
    header->msg_control = controls[i];
    header->msg_controllen = sizeof controls[i];
    struct cmsghdr *c = CMSG_FIRSTHDR(header);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(unsigned short));
    *(unsigned short *)CMSG_DATA(c) = longest;
  }

  long datagrams = 0, calls = 0;
  int next = 0;
  double start = clock_seconds(CLOCK_MONOTONIC), busy = clock_seconds(CLOCK_THREAD_CPUTIME_ID), now = start;
  while (now < start + seconds) {
    for (int k = 0; k < 16; k++) {
      for (int i = 0; i < vlen; i++) {
        messages[i].msg_hdr.msg_name = is_unix ? NULL : &to[next];
        if (++next == destinations) next = 0;
        if (!copies) continue;
        for (int s = 0; s < segments; s++) memcpy(slab + stride * i + (size_t)longest * s, payload, longest);
      }
      int n = sendmmsg(fd, messages, vlen, is_unix ? 0 : MSG_DONTWAIT);
      calls++;
      if (n > 0) datagrams += (long)n * segments;
      else if (errno != EAGAIN) return perror("sendmmsg"), 1;
    }
    now = clock_seconds(CLOCK_MONOTONIC);
  }
  printf("{\"datagrams\":%ld,\"seconds\":%.9f,\"busySeconds\":%.9f,\"syscalls\":%ld}\n", datagrams, now - start,
         clock_seconds(CLOCK_THREAD_CPUTIME_ID) - busy, calls);
  return 0;
}
