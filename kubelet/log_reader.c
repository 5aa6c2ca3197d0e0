// SPDX-License-Identifier: Apache-2.0
#include "kubelet/log_reader.h"
#include "object/timestamp.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static bool cut(struct kl_str *rest, struct kl_str *ret)
{
    ptrdiff_t at = kl_str_chr(*rest, ' ');
    if (at < 0)
        return false;
    *ret = (struct kl_str){rest->p, (size_t)at};
    *rest = kl_str_from(*rest, (size_t)at + 1);
    return true;
}

bool kl_log_parse(struct kl_str line, struct kl_log_line *ret)
{
    struct kl_str tags;
    if (!cut(&line, &ret->time) || !cut(&line, &ret->stream) || !cut(&line, &tags))
        return false;
    if (!kl_str_eqz(ret->stream, "stdout") && !kl_str_eqz(ret->stream, "stderr"))
        return false;
    ptrdiff_t colon = kl_str_chr(tags, ':'); // further tags
    if (colon >= 0)
        tags.n = (size_t)colon;
    ret->partial = kl_str_eqz(tags, "P");
    ret->text = line;
    return true;
}

bool kl_log_format(struct kl_log_filter *f, struct kl_str raw, struct kl_buf *out, size_t *ret_used)
{
    struct kl_str rest = raw;
    *ret_used = 0;
    for (ptrdiff_t nl; (nl = kl_str_chr(rest, '\n')) >= 0;) {
        struct kl_log_line l;
        struct kl_str line = {rest.p, (size_t)nl};
        int64_t at;
        rest = kl_str_from(rest, (size_t)nl + 1);
        *ret_used = raw.n - rest.n;
        if (!kl_log_parse(line, &l))
            continue;
        if (f->since_us && !kl_time_parse(l.time, &at, NULL) && at < f->since_us)
            continue;
        size_t before = out->n;
        if (f->timestamps) {
            kl_buf_puts(out, l.time);
            kl_buf_putc(out, ' ');
        }
        kl_buf_puts(out, l.text);
        if (!l.partial)
            kl_buf_putc(out, '\n');
        if (f->limit_bytes < 0)
            continue;
        int64_t wrote = (int64_t)(out->n - before);
        if (wrote >= f->limit_bytes) {
            out->n = before + (size_t)f->limit_bytes;
            f->limit_bytes = 0;
            return false;
        }
        f->limit_bytes -= wrote;
    }
    return true;
}

int kl_log_tail_offset(int fd, int64_t lines, int64_t *ret_offset, struct kl_error *err)
{
    enum { BLOCK = 64 * 1024 };
    struct stat st;
    struct kl_buf b;
    if (fstat(fd, &st))
        return kl_error_errno(err, errno, "stat of a log");
    int64_t end = st.st_size;
    *ret_offset = end;
    if (lines <= 0)
        return 0;
    kl_buf_init(&b, BLOCK);
    int r = kl_buf_reserve(&b, BLOCK);
    bool last = true; // the newline that ends the last line begins none
    while (!r && end > 0) {
        int64_t from = end > BLOCK ? end - BLOCK : 0;
        ssize_t n = pread(fd, b.p, (size_t)(end - from), from);
        if (n <= 0)
            break;
        for (ssize_t i = n; i-- > 0;) {
            if (b.p[i] == '\n' && !last && --lines == 0) {
                *ret_offset = from + i + 1;
                kl_buf_fini(&b);
                return 0;
            }
            last = false;
        }
        end = from;
    }
    kl_buf_fini(&b);
    *ret_offset = 0;
    return r ? kl_error_set(err, r, "reading a log: %s", kl_err_text(r)) : 0;
}
