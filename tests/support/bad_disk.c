/* Preloaded into a program, this makes writes to files whose path holds the text BAD_DISK_FILES fail with the error number that
   the file BAD_DISK holds; with none there, everything is as it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int file) {
    const char *part = getenv("BAD_DISK_FILES"), *state = getenv("BAD_DISK");
    char link[40], path[512], text[16];
    if (!part || !state) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    int known = (int)syscall(SYS_openat, AT_FDCWD, state, O_RDONLY | O_CLOEXEC, 0);
    if (known < 0) return 0;
    length = syscall(SYS_read, known, text, sizeof text - 1);
    syscall(SYS_close, known);
    if (length <= 0) return 0;
    text[length] = 0;
    errno = atoi(text);
    return errno != 0;
}

ssize_t write(int file, const void *bytes, size_t count) {
    return fails(file) ? -1 : syscall(SYS_write, file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    return fails(file) ? -1 : syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    return fails(file) ? -1 : syscall(SYS_pwrite64, file, bytes, count, at);
}

int ftruncate(int file, off_t length) { return fails(file) ? -1 : (int)syscall(SYS_ftruncate, file, length); }

int ftruncate64(int file, off64_t length) { return fails(file) ? -1 : (int)syscall(SYS_ftruncate, file, length); }
