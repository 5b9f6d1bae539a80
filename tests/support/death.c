/* Preloaded into the program whose name is DEATH_OF, this kills it (as kill -9 does) before the call that leaves a trace, a write
   to a file or a socket, a flush or a new name of a file, that brings the number in the file DEATH down to nothing; nothing there, and it lives. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int64_t *left;

__attribute__((constructor)) static void look(void) {
    const char *of = getenv("DEATH_OF"), *state = getenv("DEATH");
    if (!of || !state || strcmp(program_invocation_short_name, of)) return;
    int file = (int)syscall(SYS_openat, AT_FDCWD, state, O_RDWR | O_CLOEXEC, 0);
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (shared != MAP_FAILED) left = shared;
}

static void call(void) {
    if (left && __atomic_load_n(left, __ATOMIC_SEQ_CST) > 0 && __atomic_sub_fetch(left, 1, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
}

ssize_t write(int file, const void *bytes, size_t count) {
    /* Eight bytes wake another thread of the program; nobody else sees them. */
    if (count != 8) call();
    return syscall(SYS_write, file, bytes, count);
}

ssize_t writev(int file, const struct iovec *parts, int count) { call(); return syscall(SYS_writev, file, parts, count); }

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    call();
    return syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    call();
    return syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t send(int socket, const void *bytes, size_t count, int flags) {
    call();
    return syscall(SYS_sendto, socket, bytes, count, flags, NULL, 0);
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    call();
    return syscall(SYS_sendmsg, socket, message, flags);
}

int rename(const char *from, const char *to) { call(); return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }

int fsync(int file) { call(); return (int)syscall(SYS_fsync, file); }

int fdatasync(int file) { call(); return (int)syscall(SYS_fdatasync, file); }
