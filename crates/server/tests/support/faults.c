/* System calls on the database's files that fail on demand, in a server that knows nothing of it (LD_PRELOAD).
 *
 * The file LANDFALL_FAULTS is memory that the test and the server share: byte 0 says how the disk is ('w' well, 'f' full,
 * 's' no sync), and from byte 8 on stands, as text of twenty digits, how often a call failed. A full disk takes half of what is
 * written, says so, and then fails with ENOSPC; a sync fails with EIO.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile char *state;
static long faults;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("LANDFALL_FAULTS");
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) abort();
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) abort();
    close(file);
    state = memory;
}

static int is_database(int file) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t count = readlink(link, path, sizeof path - 1);
    if (count < 0) return 0;
    path[count] = 0;
    return strstr(path, "/landfall.db") != NULL;
}

static int fails(int file, char how) {
    if (!state || state[0] != how || !is_database(file)) return 0;
    char text[24];
    snprintf(text, sizeof text, "%020ld", __atomic_add_fetch(&faults, 1, __ATOMIC_SEQ_CST));
    memcpy((char *)state + 8, text, 20);
    return 1;
}

static ssize_t write_at(const char *name, int file, const void *bytes, size_t count, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, name);
    if (!fails(file, 'f')) return real(file, bytes, count, at);
    if (count > 1) return real(file, bytes, count / 2, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) { return write_at("pwrite", file, bytes, count, at); }
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) { return write_at("pwrite64", file, bytes, count, at); }

ssize_t write(int file, const void *bytes, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (!fails(file, 'f')) return real(file, bytes, count);
    errno = ENOSPC;
    return -1;
}

static int sync_of(const char *name, int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    if (!fails(file, 's')) return real(file);
    errno = EIO;
    return -1;
}

int fsync(int file) { return sync_of("fsync", file); }
int fdatasync(int file) { return sync_of("fdatasync", file); }
