// Reads datagrams as fast as it can, in a process that no fault reaches, and writes them down in a shared file.
// argv: the file, then paths of unix sockets. It also listens on a UDP port of all local IPv4 addresses, and ends when
// its standard input does. The layout of the file is repeated in arrivals.ts.
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_SOCKETS 16
#define RECORDS 65536
#define TEXT 24

struct record {
  uint32_t socket; // 0: UDP, 1…: the unix sockets
  uint32_t length;
  uint32_t hash; // FNV-1a of all bytes
  char text[TEXT]; // how it begins
  uint32_t spare;
};

struct arrivals {
  uint32_t port; // of the UDP socket; set when all are bound
  uint32_t count; // ever; a record is there before it is counted
  uint32_t spare[8];
  struct record records[RECORDS];
};

static uint32_t hash_of(const unsigned char *bytes, size_t length) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc - 1 > MAX_SOCKETS) return 64;
  int file = open(argv[1], O_RDWR);
  struct arrivals *arrivals = mmap(NULL, sizeof *arrivals, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (arrivals == MAP_FAILED) return 74;
  struct pollfd sockets[MAX_SOCKETS + 1] = {{.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), .events = POLLIN}};
  int count = 1;
  int room = 8 << 20; // past net.core.rmem_max, where root may
  if (setsockopt(sockets[0].fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0)
    setsockopt(sockets[0].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  struct sockaddr_in any = {.sin_family = AF_INET};
  socklen_t length = sizeof any;
  if (bind(sockets[0].fd, (struct sockaddr *)&any, length) != 0) return 71;
  getsockname(sockets[0].fd, (struct sockaddr *)&any, &length);
  for (int i = 2; i < argc; i++) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, argv[i], sizeof name.sun_path - 1);
    sockets[count] = (struct pollfd){.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), .events = POLLIN};
    if (bind(sockets[count++].fd, (struct sockaddr *)&name, sizeof name) != 0) return 71;
  }
  sockets[count] = (struct pollfd){.fd = 0, .events = POLLIN};
  __atomic_store_n(&arrivals->port, ntohs(any.sin_port), __ATOMIC_RELEASE);

  static unsigned char bytes[65536];
  for (;;) {
    if (poll(sockets, (nfds_t)count + 1, -1) < 0) continue;
    if (sockets[count].revents != 0) return 0;
    for (int i = 0; i < count; i++) {
      if (sockets[i].revents == 0) continue;
      ssize_t size;
      while ((size = recv(sockets[i].fd, bytes, sizeof bytes, 0)) >= 0) {
        struct record *record = &arrivals->records[arrivals->count % RECORDS];
        record->socket = (uint32_t)i;
        record->length = (uint32_t)size;
        record->hash = hash_of(bytes, (size_t)size);
        memset(record->text, 0, TEXT);
        memcpy(record->text, bytes, size < TEXT ? (size_t)size : TEXT);
        __atomic_store_n(&arrivals->count, arrivals->count + 1, __ATOMIC_RELEASE);
      }
    }
  }
}
