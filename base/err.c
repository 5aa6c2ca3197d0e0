// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct err_info {
    const char *text, *reason;
    int http, grpc;
};

static const struct err_info table[] = {[0] = {"ok", "", 200, 0},
#define ERR_INFO(name, value, text, http, reason, grpc) [-(value)] = {text, reason, http, grpc},
                                        KL_ERR_LIST(ERR_INFO)
#undef ERR_INFO
};

// A code that is not in the list is a bug of ours, and told as such.
static const struct err_info *find_info(int code)
{
    unsigned i = -(unsigned)code;
    return &table[i < sizeof(table) / sizeof(table[0]) ? i : -KL_EINTERNAL];
}

const char *kl_err_text(int code)
{
    return find_info(code)->text;
}

int kl_err_http(int code)
{
    return find_info(code)->http;
}

const char *kl_err_reason(int code)
{
    return find_info(code)->reason;
}

int kl_err_grpc(int code)
{
    return find_info(code)->grpc;
}

// Cuts an over-long message where a UTF-8 sequence ends, so that it can be put into JSON.
static void cut_utf8(char *msg, size_t size)
{
    size_t n = size - 1, start = n;
    while (start > 0 && n - start < 4 && ((unsigned char)msg[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)msg[start - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > 1 && n - (start - 1) < want)
        msg[start - 1] = 0;
}

int kl_error_vset(struct kl_error *err, int code, const char *fmt, va_list ap)
{
    if (!err)
        return code;
    // The arguments may point into err->msg: format aside.
    char msg[sizeof(err->msg)];
    int n = vsnprintf(msg, sizeof(msg), fmt, ap);
    if (n < 0)
        n = snprintf(msg, sizeof(msg), "%s", kl_err_text(code));
    if ((size_t)n >= sizeof(msg)) {
        cut_utf8(msg, sizeof(msg));
        n = (int)strlen(msg);
    }
    err->code = code;
    memcpy(err->msg, msg, (size_t)n + 1);
    return code;
}

int kl_error_set(struct kl_error *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    kl_error_vset(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int kl_error_wrap(struct kl_error *err, const char *fmt, ...)
{
    if (!err)
        return KL_EINTERNAL;
    char context[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(context, sizeof(context), fmt, ap);
    va_end(ap);
    if (n < 0)
        return err->code;
    return kl_error_set(err, err->code, "%s: %s", context, err->msg);
}

static int code_of_errno(int e)
{
    switch (e) {
    case 0:
        return KL_EINTERNAL;
    case ENOMEM:
        return KL_ENOMEM;
    case ENOSPC:
    case EDQUOT:
        return KL_ENOSPC;
    case ENOENT:
    case ESRCH:
        return KL_ENOTFOUND;
    case EEXIST:
        return KL_EEXISTS;
    case EACCES:
    case EPERM:
        return KL_EFORBIDDEN;
    case EAGAIN:
    case EINTR:
    case EBUSY:
        return KL_EAGAIN;
    case ETIMEDOUT:
        return KL_ETIMEOUT;
    case ECANCELED:
        return KL_ECANCELED;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return KL_EUNAVAILABLE;
    case EINVAL:
    case ENAMETOOLONG:
        return KL_EBADREQUEST;
    case EPROTO:
        return KL_EPROTO;
    case E2BIG:
    case EFBIG:
    case EMSGSIZE:
    case EMFILE:
    case ENFILE:
        return KL_ELIMIT;
    case ENOSYS:
    case EOPNOTSUPP:
        return KL_EUNSUPPORTED;
    default:
        return KL_EIO;
    }
}

int kl_error_errno(struct kl_error *err, int errno_value, const char *fmt, ...)
{
    int code = code_of_errno(errno_value);
    if (!err)
        return code;
    char context[sizeof(err->msg)], text[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(context, sizeof(context), fmt, ap);
    va_end(ap);
    const char *why = strerror_r(errno_value, text, sizeof(text));
    return kl_error_set(err, code, "%s: %s", n < 0 ? kl_err_text(code) : context, why);
}
