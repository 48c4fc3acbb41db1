#define _GNU_SOURCE
#include "trace_server.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "trace_reply.h"
#include "wire.h"

/* For questions, which hold at most an attribute's value or a small write that is refused. */
#define LONGEST_QUESTION ((size_t)128 * 1024)
#define LONGEST_WRITE 4096

#define LONGEST_READ ((size_t)1024 * 1024)
#define PAGE 4096

/*
 * NO_OPEN and NO_OPENDIR: once an open was answered with ENOSYS there are no more. What tells of the content being used is the
 * reading into the page cache, also for mmap and execve. EXPLICIT_INVAL_DATA: pages are kept, whatever attributes say.
 */
#define WANTED_FLAGS                                                                                              \
  (FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_CACHE_SYMLINKS | \
   FUSE_MAX_PAGES | FUSE_EXPLICIT_INVAL_DATA | FUSE_DO_READDIRPLUS)

/* Without these the kernel would ask for more than is answered, or what it kept would count as not looked at. */
#define NEEDED_FLAGS (FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT)

static bool reply_init(const struct trace_server *server, const struct trace_request *request) {
  const struct fuse_init_in *in = (const struct fuse_init_in *)request->body;
  if (in->major != FUSE_KERNEL_VERSION || (in->flags & NEEDED_FLAGS) != NEEDED_FLAGS) {
    errno = EPROTO;
    trace_reply(server, request, -EPROTO, NULL, 0);
    return false;
  }
  struct fuse_init_out out = {
      .major = FUSE_KERNEL_VERSION,
      .minor = FUSE_KERNEL_MINOR_VERSION,
      .max_readahead = in->max_readahead,
      .flags = in->flags & WANTED_FLAGS,
      .max_background = 64,
      .congestion_threshold = 48,
      .max_write = LONGEST_WRITE,
      .time_gran = 1,
      .max_pages = LONGEST_READ / PAGE,
  };
  trace_reply(server, request, 0, &out, sizeof out);
  return true;
}

static void reply_content(struct trace_server *server, const struct trace_request *request) {
  static unsigned char bytes[LONGEST_READ];
  const struct fuse_read_in *in = (const struct fuse_read_in *)request->body;
  size_t size = in->size < LONGEST_READ ? in->size : LONGEST_READ;
  bool is_new = (request->node->uses & USE_CONTENT) == 0;
  trace_observe(&server->record, request->node, USE_CONTENT, request->header->pid);
  if (is_new) {
    trace_ahead_note(&server->ahead, &server->tree, request->node, trace_process(&server->record, request->header->pid));
  }
  ssize_t got = trace_content_read(&server->content, request->node, bytes, size, (off_t)in->offset);
  if (got < 0) {
    /* A program might take an error, or an early end, for an answer. The step must not go on. */
    static char path[PATH_MAX * 2];
    const char *start = trace_node_path(request->node, path, sizeof path);
    fail(errno, "snapshot-corrupt", start, "a file of a stored layer is missing, cut short or unreadable");
  }
  trace_reply(server, request, 0, bytes, (size_t)got);
}

static void reply_target(struct trace_server *server, const struct trace_request *request) {
  trace_observe(&server->record, request->node, USE_TARGET, request->header->pid);
  trace_reply(server, request, 0, request->node->target.bytes, request->node->target.length);
}

/* Constant: what the diffs hold in all is nobody's business. */
static void reply_statfs(const struct trace_server *server, const struct trace_request *request) {
  struct fuse_statfs_out out = {.st = {.bsize = PAGE, .frsize = PAGE, .namelen = NAME_MAX}};
  trace_reply(server, request, 0, &out, sizeof out);
}

static void answer(struct trace_server *server, const struct trace_request *request) {
  switch (request->header->opcode) {
    case FUSE_LOOKUP: trace_reply_lookup(server, request); return;
    case FUSE_GETATTR: trace_reply_attributes(server, request); return;
    case FUSE_READ: reply_content(server, request); return;
    case FUSE_READLINK: reply_target(server, request); return;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS: trace_reply_listing(server, request); return;
    case FUSE_GETXATTR: trace_reply_xattr(server, request); return;
    case FUSE_LISTXATTR: trace_reply_xattr_names(server, request); return;
    case FUSE_STATFS: reply_statfs(server, request); return;
    /* They await no answer; nodes live for ever. */
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
    case FUSE_DESTROY: return;
    case FUSE_SETATTR:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_WRITE:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_CREATE:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
    case FUSE_TMPFILE: trace_reply(server, request, -EROFS, NULL, 0); return;
    /* OPEN, OPENDIR, ACCESS, IOCTL, LSEEK and whatever kernels will think of: they then do without. */
    default: trace_reply(server, request, -ENOSYS, NULL, 0); return;
  }
}

bool trace_serve(struct trace_server *server, const volatile int *stop) {
  unsigned char *question = wire_allocate(LONGEST_QUESTION);
  bool begun = false;
  while (!*stop) {
    ssize_t got = read(server->fuse, question, LONGEST_QUESTION);
    if (got < 0) {
      if (errno == ENODEV) return true;
      /* ENOENT: the asker was killed before its question was read. */
      if (errno == EINTR || errno == EAGAIN || errno == ENOENT) continue;
      return false;
    }
    const struct fuse_in_header *header = (const struct fuse_in_header *)question;
    struct trace_request request = {.header = header, .body = question + sizeof *header, .size = (size_t)got - sizeof *header};
    if (header->opcode == FUSE_INIT) {
      if (!reply_init(server, &request)) return false;
      begun = true;
      continue;
    }
    if (!begun) {
      errno = EPROTO;
      return false;
    }
    request.node =
        header->nodeid == FUSE_ROOT_ID ? server->tree.root : (struct trace_node *)(uintptr_t)header->nodeid;
    trace_record_next(&server->record);
    answer(server, &request);
  }
  return true;
}
