/* Preloaded shim: records every change of the files below one directory, and fails calls on demand.
 *
 * RECORDER_ROOT    directory whose files are watched (resolved path); nothing is done without it
 * RECORDER_LOG     file that records are appended to; outside of the root; absent: nothing is recorded
 * RECORDER_MARKS   what is written to this file is recorded as a mark (the answers that were given)
 * RECORDER_FAULTS  file with a `struct faults`, which the test changes while the process runs
 * RECORDER_NOSYNC  set: syncs do nothing, and O_DSYNC and O_SYNC are taken off
 *
 * Invariants: a record is appended by one write to an O_APPEND descriptor after the call has succeeded and
 * before it returns, so that what happened before is recorded before. A sync has two records: what was
 * recorded before its start is durable at its end, nothing else. Calls go to the kernel directly and files
 * are told by descriptor and inode at the time of the call, so there is no table that could be stale.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* One record: this header, the path (without the root), the payload. recorder/disk.py reads it. */
struct header {
    uint32_t kind;
    uint32_t path_bytes;
    uint64_t inode;
    uint64_t offset; /* of a write; the new size of a truncation; the mode of a fallocate */
    uint64_t payload_bytes;
    uint64_t durable; /* 1: durable at return (O_DSYNC, O_SYNC) */
};

/* Errors to give. `left` is how many more; -1: no end. recorder/shim.py writes it. */
struct faults {
    int32_t write_errno, write_left; /* writes and extensions through ordinary descriptors */
    int32_t dsync_errno, dsync_left; /* writes through O_DSYNC or O_SYNC descriptors */
    int32_t sync_errno, sync_left;   /* fsync and fdatasync */
};

static char root[PATH_MAX], marks[PATH_MAX];
static size_t root_bytes;
static int log_fd = -1, no_sync;
static volatile struct faults *faults;

__attribute__((constructor)) static void start(void) {
    const char *value = getenv("RECORDER_ROOT");
    if (value == NULL || realpath(value, root) == NULL) return;
    root_bytes = strlen(root);
    if ((value = getenv("RECORDER_MARKS")) != NULL && realpath(value, marks) == NULL) abort();
    if ((value = getenv("RECORDER_LOG")) != NULL) {
        log_fd = syscall(SYS_openat, AT_FDCWD, value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0) abort();
    }
    if ((value = getenv("RECORDER_FAULTS")) != NULL) {
        int fd = syscall(SYS_openat, AT_FDCWD, value, O_RDWR | O_CLOEXEC);
        faults = (void *)syscall(SYS_mmap, NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd < 0 || faults == MAP_FAILED) abort();
        syscall(SYS_close, fd);
    }
    no_sync = getenv("RECORDER_NOSYNC") != NULL;
}

/* The path below the root, or NULL. LMDB's lock file is not data: it is mapped and written in memory. */
static const char *below(const char *path) {
    if (root_bytes == 0 || strncmp(path, root, root_bytes) != 0) return NULL;
    if (path[root_bytes] == 0) return path + root_bytes;
    if (path[root_bytes] != '/') return NULL;
    const char *name = strrchr(path, '/');
    return strcmp(name, "/lock.mdb") == 0 ? NULL : path + root_bytes + 1;
}

static const char *path_of(int fd, char *path) {
    char link[64];
    if (root_bytes == 0 || fd < 0) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (bytes < 0) return NULL;
    path[bytes] = 0;
    return path;
}

/* The resolved path of a name that may not be there: its directory's, and the name. */
static const char *resolve(int dir, const char *name, char *path) {
    char joined[2 * PATH_MAX], base[PATH_MAX];
    if (root_bytes == 0) return NULL;
    if (name[0] == '/' || dir == AT_FDCWD) {
        snprintf(joined, sizeof joined, "%s", name);
    } else {
        if (path_of(dir, base) == NULL) return NULL;
        snprintf(joined, sizeof joined, "%s/%s", base, name);
    }
    size_t end = strlen(joined);
    while (end > 1 && joined[end - 1] == '/') joined[--end] = 0;
    char *slash = strrchr(joined, '/');
    const char *last = slash == NULL ? joined : slash + 1;
    if (slash != NULL) *slash = 0;
    if (realpath(slash == NULL ? "." : joined, base) == NULL) return NULL;
    if (snprintf(path, PATH_MAX, "%s/%s", base, last) >= PATH_MAX) return NULL;
    return path;
}

static void record(uint32_t kind, const char *path, uint64_t inode, uint64_t offset, uint64_t durable,
                   const struct iovec *parts, int count, size_t payload_bytes) {
    if (log_fd < 0) return;
    int saved = errno;
    struct header header = {kind, strlen(path), inode, offset, payload_bytes, durable};
    size_t total = sizeof header + header.path_bytes + payload_bytes;
    char *buffer = malloc(total), *end = buffer;
    if (buffer == NULL) abort();
    end = mempcpy(end, &header, sizeof header);
    end = mempcpy(end, path, header.path_bytes);
    for (int i = 0; i < count && payload_bytes > 0; i++) {
        size_t bytes = parts[i].iov_len < payload_bytes ? parts[i].iov_len : payload_bytes;
        end = mempcpy(end, parts[i].iov_base, bytes);
        payload_bytes -= bytes;
    }
    if (syscall(SYS_write, log_fd, buffer, total) != (ssize_t)total) abort();
    free(buffer);
    errno = saved;
}

static uint64_t inode_of(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static int is_durable(int fd) { return (syscall(SYS_fcntl, fd, F_GETFL) & (O_DSYNC | O_SYNC)) != 0; }

static int fails(volatile int32_t *error, volatile int32_t *left) {
    if (faults == NULL || *error == 0 || *left == 0) return 0;
    if (*left > 0) __atomic_sub_fetch(left, 1, __ATOMIC_SEQ_CST);
    errno = *error;
    return 1;
}

static int write_fails(int fd, const char *file) {
    if (file == NULL || faults == NULL) return 0;
    return is_durable(fd) ? fails(&faults->dsync_errno, &faults->dsync_left)
                          : fails(&faults->write_errno, &faults->write_left);
}

static void record_write(int fd, const char *file, const struct iovec *parts, int count, off_t offset,
                         ssize_t bytes) {
    if (file != NULL && bytes > 0)
        record('W', file, inode_of(fd), offset, is_durable(fd), parts, count, bytes);
}

/* Files: open, write, size. */

static int open_file(int dir, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    const char *file = resolve(dir, name, path) != NULL ? below(path) : NULL;
    if (file != NULL && no_sync) flags &= ~(O_DSYNC | O_SYNC);
    int fd = syscall(SYS_openat, dir, name, flags, mode);
    if (fd < 0 || file == NULL || (flags & O_DIRECTORY)) return fd;
    char opened[PATH_MAX];
    if (path_of(fd, opened) == NULL || (file = below(opened)) == NULL) return fd;
    if (flags & O_CREAT) record('C', file, inode_of(fd), 0, 0, NULL, 0, 0);
    if (flags & O_TRUNC) record('T', file, inode_of(fd), 0, 0, NULL, 0, 0);
    return fd;
}

#define MODE(last)                                                                                       \
    mode_t mode = 0;                                                                                     \
    if (last & (O_CREAT | __O_TMPFILE)) {                                                                \
        va_list rest;                                                                                    \
        va_start(rest, last);                                                                            \
        mode = va_arg(rest, mode_t);                                                                     \
        va_end(rest);                                                                                    \
    }

int open(const char *name, int flags, ...) {
    MODE(flags)
    return open_file(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE(flags)
    return open_file(AT_FDCWD, name, flags, mode);
}
int openat(int dir, const char *name, int flags, ...) {
    MODE(flags)
    return open_file(dir, name, flags, mode);
}
int openat64(int dir, const char *name, int flags, ...) {
    MODE(flags)
    return open_file(dir, name, flags, mode);
}
int creat(const char *name, mode_t mode) {
    return open_file(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    const char *known = path_of(fd, path), *file = known != NULL ? below(known) : NULL;
    if (write_fails(fd, file)) return -1;
    ssize_t bytes = syscall(SYS_writev, fd, parts, count);
    if (bytes > 0 && known != NULL && marks[0] != 0 && strcmp(known, marks) == 0)
        record('M', "", 0, 0, 0, parts, count, bytes);
    if (file != NULL && bytes > 0)
        record_write(fd, file, parts, count, lseek(fd, 0, SEEK_CUR) - bytes, bytes);
    return bytes;
}
ssize_t write(int fd, const void *data, size_t bytes) {
    struct iovec part = {(void *)data, bytes};
    return writev(fd, &part, 1);
}

static ssize_t write_at(int fd, const struct iovec *parts, int count, off_t offset) {
    char path[PATH_MAX];
    const char *file = path_of(fd, path) != NULL ? below(path) : NULL;
    if (write_fails(fd, file)) return -1;
    ssize_t bytes = syscall(SYS_pwritev, fd, parts, count, offset, 0);
    record_write(fd, file, parts, count, offset, bytes);
    return bytes;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return write_at(fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    return write_at(fd, parts, count, offset);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    struct iovec part = {(void *)data, bytes};
    return write_at(fd, &part, 1, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) {
    return pwrite(fd, data, bytes, offset);
}

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    const char *file = path_of(fd, path) != NULL ? below(path) : NULL;
    if (write_fails(fd, file)) return -1;
    int result = syscall(SYS_ftruncate, fd, size);
    if (result == 0 && file != NULL) record('T', file, inode_of(fd), size, 0, NULL, 0, 0);
    return result;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    char path[PATH_MAX];
    const char *file = path_of(fd, path) != NULL ? below(path) : NULL;
    if (write_fails(fd, file)) return -1;
    int result = syscall(SYS_fallocate, fd, mode, offset, bytes);
    uint64_t range[2] = {offset, bytes};
    struct iovec part = {range, sizeof range};
    if (result == 0 && file != NULL) record('A', file, inode_of(fd), mode, 0, &part, 1, sizeof range);
    return result;
}
int fallocate64(int fd, int mode, off_t offset, off_t bytes) { return fallocate(fd, mode, offset, bytes); }
int posix_fallocate(int fd, off_t offset, off_t bytes) {
    return fallocate(fd, 0, offset, bytes) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off_t offset, off_t bytes) { return posix_fallocate(fd, offset, bytes); }

/* What this recorder cannot follow is an error record, and fails the test. */

static void *map(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    char path[PATH_MAX];
    const char *file = fd >= 0 && path_of(fd, path) != NULL ? below(path) : NULL;
    if (file != NULL && (protection & PROT_WRITE) && (flags & MAP_SHARED)) record('E', file, 0, 0, 0, NULL, 0, 0);
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return map(at, bytes, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return map(at, bytes, protection, flags, fd, offset);
}
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t bytes, unsigned flags) {
    char path[PATH_MAX];
    const char *file = path_of(out, path) != NULL ? below(path) : NULL;
    if (file != NULL) record('E', file, 0, 0, 0, NULL, 0, 0);
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, bytes, flags);
}

/* Syncs. sync_file_range and msync promise nothing about a file's size or metadata: not counted. */

static int sync_file(long call, int fd) {
    char path[PATH_MAX];
    const char *file = path_of(fd, path) != NULL ? below(path) : NULL;
    if (file == NULL) return syscall(call, fd);
    if (faults != NULL && fails(&faults->sync_errno, &faults->sync_left)) return -1;
    if (no_sync) return 0;
    uint64_t inode = inode_of(fd);
    record('s', file, inode, 0, 0, NULL, 0, 0);
    int result = syscall(call, fd);
    if (result == 0) record('S', file, inode, 0, 0, NULL, 0, 0);
    return result;
}
int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }

/* Names. */

static int rename_file(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char old_path[PATH_MAX], new_path[PATH_MAX];
    const char *old = resolve(from_dir, from, old_path) != NULL ? below(old_path) : NULL;
    const char *new = resolve(to_dir, to, new_path) != NULL ? below(new_path) : NULL;
    int result = syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (result != 0 || (old == NULL && new == NULL)) return result;
    struct iovec part = {(void *)new, new == NULL ? 0 : strlen(new)};
    record(old == NULL || new == NULL || flags != 0 ? 'E' : 'R', old == NULL ? "" : old, 0, 0, 0, &part, 1,
           part.iov_len);
    return result;
}
int rename(const char *from, const char *to) { return rename_file(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return rename_file(from_dir, from, to_dir, to, 0);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return rename_file(from_dir, from, to_dir, to, flags);
}

static int name_call(uint32_t kind, long call, int dir, const char *name, long argument) {
    char path[PATH_MAX];
    const char *file = resolve(dir, name, path) != NULL ? below(path) : NULL;
    int result = syscall(call, dir, name, argument);
    if (result == 0 && file != NULL) record(kind, file, 0, 0, 0, NULL, 0, 0);
    return result;
}
int unlink(const char *name) { return name_call('U', SYS_unlinkat, AT_FDCWD, name, 0); }
int unlinkat(int dir, const char *name, int flags) { return name_call('U', SYS_unlinkat, dir, name, flags); }
int rmdir(const char *name) { return name_call('U', SYS_unlinkat, AT_FDCWD, name, AT_REMOVEDIR); }
int mkdir(const char *name, mode_t mode) { return name_call('D', SYS_mkdirat, AT_FDCWD, name, mode); }
int mkdirat(int dir, const char *name, mode_t mode) { return name_call('D', SYS_mkdirat, dir, name, mode); }
int link(const char *from, const char *to) {
    char path[PATH_MAX];
    const char *file = resolve(AT_FDCWD, to, path) != NULL ? below(path) : NULL;
    if (file != NULL) record('E', file, 0, 0, 0, NULL, 0, 0);
    return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
