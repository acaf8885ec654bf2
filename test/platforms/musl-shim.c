// What libstdc++_pic.a and libgcc_eh.a of Debian, which were built for glibc, want and musl does not have.
#define _GNU_SOURCE
#include <link.h>
#include <locale.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded = 0;
void *__dso_handle __attribute__((visibility("hidden"))) = &__dso_handle;

uint32_t arc4random(void) {
  uint32_t number = 0;
  getrandom(&number, sizeof number, 0);
  return number;
}

size_t __strftime_l(char *text, size_t size, const char *format, const struct tm *time, locale_t locale) {
  return strftime_l(text, size, format, time, locale);
}

// Instantiations that the archive leaves out and nothing calls.
void _ZNSi6ignoreEl(void) { abort(); }
void _ZNSt13basic_istreamIwSt11char_traitsIwEE6ignoreEl(void) { abort(); }

// Destructors of thread_local objects, run by those of a pthread key.
struct destructor {
  void (*run)(void *);
  void *object;
  struct destructor *next;
};
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void run_all(void *first) {
  for (struct destructor *each = first, *next; each != NULL; each = next) {
    next = each->next;
    pthread_setspecific(key, next);
    each->run(each->object);
    free(each);
  }
}

static void make_key(void) { pthread_key_create(&key, run_all); }

int __cxa_thread_atexit_impl(void (*run)(void *), void *object, void *library) {
  (void)library;
  pthread_once(&once, make_key);
  struct destructor *added = malloc(sizeof *added);
  if (added == NULL) return -1;
  *added = (struct destructor){run, object, pthread_getspecific(key)};
  return pthread_setspecific(key, added);
}

// _dl_find_object(3) of glibc 2.35, which the unwinder asks, by way of dl_iterate_phdr(3).
struct dl_find_object {
  unsigned long long flags;
  void *start, *end;
  struct link_map *map;
  void *eh_frame;
  unsigned long long reserved[7];
};
struct search {
  uintptr_t address;
  struct dl_find_object *result;
};

static int look(struct dl_phdr_info *library, size_t size, void *data) {
  (void)size;
  struct search *search = data;
  uintptr_t start = UINTPTR_MAX, end = 0, eh_frame = 0;
  int is_inside = 0;
  for (int index = 0; index < library->dlpi_phnum; index++) {
    const ElfW(Phdr) *header = &library->dlpi_phdr[index];
    uintptr_t from = library->dlpi_addr + header->p_vaddr, to = from + header->p_memsz;
    if (header->p_type == PT_GNU_EH_FRAME) eh_frame = from;
    if (header->p_type != PT_LOAD) continue;
    if (from < start) start = from;
    if (to > end) end = to;
    if (search->address >= from && search->address < to) is_inside = 1;
  }
  if (!is_inside || eh_frame == 0) return 0;
  *search->result = (struct dl_find_object){0, (void *)start, (void *)end, NULL, (void *)eh_frame, {0}};
  return 1;
}

int _dl_find_object(void *address, struct dl_find_object *result) {
  struct search search = {(uintptr_t)address, result};
  return dl_iterate_phdr(look, &search) ? 0 : -1;
}
