// Answers sendmmsg(2) and sendmsg(2) in the kernel's place, by a script; loaded with LD_PRELOAD.
//
// It stands at the last line of user space, libc's entry points (syscall(2) among them), so that it holds whatever calls
// them: koffi on the main thread, the thread pool or a worker, and libuv. What a call is said to have taken has been sent
// by the real system call with a smaller vlen. As the kernel does it, an error behind the head of a call is discarded (the
// call ends before it), and an error at the head is told: -1 and errno.
//
// The script and the log of all calls are in a file that is mapped shared (its path in RX_SENDMMSG_FAULTS), so that the
// process under test needs nothing but reads and writes of a file. Its layout is repeated in control.ts.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define UDP_SEGMENT_OPTION 103
#define MAX_VLEN 1024
#define MAX_RULES 16
#define MAX_KEYS 4096
#define LOG_RECORDS 32768
#define FOR_EVER 0xffffffffu
#define NOBODY 0xffffffffu

enum kind { BY_CALL = 1, BY_MESSAGE = 2, BY_DATAGRAM = 3 };
// A discarded error counts, too, as a pending error of the socket does: the kernel clears it when it is met.
#define COUNTS_DISCARDED 1
// Only messages of several segments: what refuses UDP GSO takes the same datagrams plainly.
#define SEGMENTED_ONLY 2

struct rule {
  uint32_t kind;
  uint32_t at;     // the call, message or datagram, counted from 0 since the script began
  uint32_t every;  // and every so many after it; 0: no other
  uint32_t times;  // by call: matches in all; else: how often each key fails
  uint32_t error;  // what is answered; 0: nothing, `take` only
  uint32_t take;   // by call: take at most so many messages; 0: no such limit
  uint32_t flags;
  uint32_t spare;
};

struct record {
  int32_t answer;     // what the caller was told: a count, or -errno
  uint32_t injected;  // 1: an error was told, 2: the call was cut short, 0: the kernel's own answer
  uint32_t vlen;
  uint32_t head;      // the number of the first datagram
  uint32_t segments;  // datagrams in the first message
  uint32_t datagrams; // datagrams taken
  uint32_t micros;    // since the script began
  uint32_t error;     // of a cut: the error that was discarded
};

struct control {
  uint32_t absent;     // written by the test: sendmmsg(2) is not there, ENOSYS
  uint32_t generation; // written by the test when a new script is there
  uint32_t rule_count;
  uint32_t seen; // from here on written by the shim: the generation of what follows
  uint32_t calls;
  uint32_t messages; // taken
  uint32_t datagrams;
  uint32_t told;
  uint32_t cut;
  uint32_t ever; // calls since the process began
  uint32_t spare[6];
  struct rule rules[MAX_RULES];
  struct record log[LOG_RECORDS];
};

static struct control *control;
static long (*real_syscall)(long, ...);
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

// The script at work, and how often each rule has struck, in all and at each key.
static struct rule rules[MAX_RULES];
static uint32_t rule_count, generation;
static uint32_t strikes[MAX_RULES];
static uint16_t strikes_at[MAX_RULES][MAX_KEYS];
static struct timespec began;

static void resolve(void) {
  if (real_syscall == NULL) real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
}

__attribute__((constructor)) static void start(void) {
  resolve();
  const char *path = getenv("RX_SENDMMSG_FAULTS");
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) abort();
  void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (map == MAP_FAILED) abort();
  control = map;
}

static int is_datagram_socket(int fd) {
  int type = 0;
  socklen_t length = sizeof type;
  int saved = errno;
  int answer = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
  errno = saved;
  return answer == 0 && type == SOCK_DGRAM;
}

// A new script: everything is counted from here.
static void rearm(void) {
  uint32_t now = __atomic_load_n(&control->generation, __ATOMIC_ACQUIRE);
  if (now == generation) return;
  generation = now;
  rule_count = control->rule_count < MAX_RULES ? control->rule_count : MAX_RULES;
  memcpy(rules, control->rules, sizeof rules);
  memset(strikes, 0, sizeof strikes);
  memset(strikes_at, 0, sizeof strikes_at);
  control->calls = control->messages = control->datagrams = control->told = control->cut = 0;
  control->seen = now;
  clock_gettime(CLOCK_MONOTONIC, &began);
}

static uint32_t micros(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint32_t)((now.tv_sec - began.tv_sec) * 1000000 + (now.tv_nsec - began.tv_nsec) / 1000);
}

static size_t length_of(const struct msghdr *message) {
  size_t length = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) length += message->msg_iov[i].iov_len;
  return length;
}

static size_t segment_size_of(const struct msghdr *message) {
  struct msghdr *m = (struct msghdr *)message;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT_OPTION) return *(uint16_t *)CMSG_DATA(c);
  }
  return 0;
}

static uint32_t segments_of(const struct msghdr *message) {
  size_t size = segment_size_of(message), length = length_of(message);
  return size == 0 || length == 0 ? 1 : (uint32_t)((length + size - 1) / size);
}

// The number that the datagram begins with, at any byte of a payload that may be gathered.
static uint32_t number_at(const struct msghdr *message, size_t offset) {
  uint32_t number = 0;
  size_t start = 0;
  int digits = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) {
    const struct iovec *part = &message->msg_iov[i];
    for (; offset < start + part->iov_len; offset++) {
      char c = ((const char *)part->iov_base)[offset - start];
      if (c < '0' || c > '9') return digits > 0 ? number : NOBODY;
      number = number * 10 + (uint32_t)(c - '0');
      if (++digits > 8) return NOBODY;
    }
    start += part->iov_len;
  }
  return digits > 0 ? number : NOBODY;
}

static int is_one_of(const struct rule *rule, uint32_t key) {
  return key == rule->at || (rule->every > 0 && key > rule->at && (key - rule->at) % rule->every == 0);
}

static int may_strike(int index, uint32_t key) {
  return key < MAX_KEYS ? strikes_at[index][key] < rules[index].times : rules[index].times == FOR_EVER;
}

// The key by which a rule strikes this message, if it does.
static int matches(int index, uint32_t position, const struct msghdr *message, uint32_t *key) {
  const struct rule *rule = &rules[index];
  uint32_t segments = segments_of(message);
  if ((rule->flags & SEGMENTED_ONLY) && segments == 1) return 0;
  if (rule->kind == BY_MESSAGE) {
    *key = position;
    return is_one_of(rule, position) && may_strike(index, position);
  }
  if (rule->kind != BY_DATAGRAM) return 0;
  size_t size = segment_size_of(message);
  for (uint32_t i = 0; i < segments; i++) {
    *key = number_at(message, i * size);
    if (*key != NOBODY && is_one_of(rule, *key) && may_strike(index, *key)) return 1;
  }
  return 0;
}

static void strike(int index, uint32_t key) {
  strikes[index]++;
  if (key < MAX_KEYS && strikes_at[index][key] < UINT16_MAX) strikes_at[index][key]++;
}

// What a call may take.
struct verdict {
  int error;      // positive: it is refused as a whole
  uint32_t limit; // messages
  int behind;     // the rule whose error comes right behind the limit, and is discarded; -1: none
  uint32_t key;
};

static struct verdict judge(struct mmsghdr *messages, uint32_t vlen) {
  uint32_t call = control->calls;
  struct verdict verdict = {.error = 0, .limit = vlen, .behind = -1};
  for (uint32_t r = 0; r < rule_count; r++) {
    const struct rule *rule = &rules[r];
    if (rule->kind != BY_CALL || !is_one_of(rule, call)) continue;
    if (rule->times != FOR_EVER && strikes[r] >= rule->times) continue;
    if (rule->error > 0) {
      strike((int)r, 0);
      verdict.error = (int)rule->error;
      return verdict;
    }
    if (rule->take > 0 && rule->take < verdict.limit) {
      strike((int)r, 0);
      verdict.limit = rule->take;
    }
  }
  for (uint32_t i = 0; i < verdict.limit; i++) {
    for (uint32_t r = 0; r < rule_count && i < verdict.limit; r++) {
      uint32_t key;
      if (!matches((int)r, control->messages + i, &messages[i].msg_hdr, &key)) continue;
      if (i == 0) {
        strike((int)r, key);
        verdict.error = (int)rules[r].error;
        return verdict;
      }
      verdict.limit = i;
      verdict.behind = (int)r;
      verdict.key = key;
    }
  }
  return verdict;
}

static struct record *note(int32_t answer, uint32_t vlen, const struct msghdr *head) {
  struct record *record = &control->log[control->calls % LOG_RECORDS];
  memset(record, 0, sizeof *record);
  record->answer = answer;
  record->vlen = vlen;
  record->head = number_at(head, 0);
  record->segments = segments_of(head);
  record->micros = micros();
  control->calls++;
  control->ever++;
  return record;
}

// `single`: a sendmsg(2), which answers with bytes.
static long answer_call(int fd, struct mmsghdr *messages, uint32_t vlen, int flags, int single) {
  uint32_t count = vlen < MAX_VLEN ? vlen : MAX_VLEN;
  pthread_mutex_lock(&mutex);
  rearm();
  struct verdict verdict = judge(messages, count);
  if (verdict.error > 0) {
    struct record *record = note(-verdict.error, count, &messages->msg_hdr);
    record->injected = 1;
    record->error = (uint32_t)verdict.error;
    control->told++;
    pthread_mutex_unlock(&mutex);
    errno = verdict.error;
    return -1;
  }
  long answer = single ? real_syscall(SYS_sendmsg, fd, &messages->msg_hdr, flags)
                       : real_syscall(SYS_sendmmsg, fd, messages, verdict.limit, flags);
  int saved = errno;
  uint32_t taken = answer < 0 ? 0 : single ? 1 : (uint32_t)answer;
  struct record *record = note(answer < 0 ? -saved : (int32_t)taken, count, &messages->msg_hdr);
  for (uint32_t i = 0; i < taken; i++) record->datagrams += segments_of(&messages[i].msg_hdr);
  // The kernel may have taken fewer by itself, and not have come so far.
  if (verdict.limit < count && taken == verdict.limit) {
    record->injected = 2;
    control->cut++;
    if (verdict.behind >= 0) {
      record->error = rules[verdict.behind].error;
      if (rules[verdict.behind].flags & COUNTS_DISCARDED) strike(verdict.behind, verdict.key);
    }
  }
  control->messages += taken;
  control->datagrams += record->datagrams;
  pthread_mutex_unlock(&mutex);
  errno = saved;
  return answer;
}

static long my_sendmmsg(int fd, struct mmsghdr *messages, unsigned int vlen, int flags) {
  resolve();
  if (control != NULL && control->absent) {
    errno = ENOSYS;
    return -1;
  }
  if (control == NULL || messages == NULL || vlen == 0 || !is_datagram_socket(fd)) {
    return real_syscall(SYS_sendmmsg, fd, messages, vlen, flags);
  }
  return answer_call(fd, messages, vlen, flags, 0);
}

static long my_sendmsg(int fd, const struct msghdr *message, int flags) {
  resolve();
  if (control == NULL || message == NULL || !is_datagram_socket(fd)) {
    return real_syscall(SYS_sendmsg, fd, message, flags);
  }
  struct mmsghdr one = {.msg_hdr = *message, .msg_len = 0};
  return answer_call(fd, &one, 1, flags, 1);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int vlen, int flags) {
  return (int)my_sendmmsg(fd, messages, vlen, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) { return my_sendmsg(fd, message, flags); }

long syscall(long number, ...) {
  resolve();
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
  long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
  va_end(list);
  if (number == SYS_sendmmsg) return my_sendmmsg((int)a, (struct mmsghdr *)b, (unsigned int)c, (int)d);
  if (number == SYS_sendmsg) return my_sendmsg((int)a, (const struct msghdr *)b, (int)c);
  return real_syscall(number, a, b, c, d, e, f);
}
