// SPDX-License-Identifier: Apache-2.0
// The one list of error codes and the error object that carries a message up the stack.
#pragma once
#include <stdarg.h>

// name, value, text, HTTP status, Status reason, gRPC code
// Reasons and HTTP codes follow k8s.io/apimachinery StatusReason; gRPC codes follow etcd's
// rpctypes.
#define KL_ERR_LIST(X)                                                                             \
    X(KL_ENOMEM, -1, "out of memory", 500, "InternalError", 8)                                     \
    X(KL_EBADREQUEST, -2, "bad request", 400, "BadRequest", 3)                                     \
    X(KL_EUNAUTHORIZED, -3, "unauthorized", 401, "Unauthorized", 16)                               \
    X(KL_EFORBIDDEN, -4, "forbidden", 403, "Forbidden", 7)                                         \
    X(KL_ENOTFOUND, -5, "not found", 404, "NotFound", 5)                                           \
    X(KL_EEXISTS, -6, "already exists", 409, "AlreadyExists", 6)                                   \
    X(KL_ECONFLICT, -7, "conflict", 409, "Conflict", 10)                                           \
    X(KL_EINVALID, -8, "invalid", 422, "Invalid", 3)                                               \
    X(KL_EEXPIRED, -9, "expired", 410, "Expired", 11)                                              \
    X(KL_ETIMEOUT, -10, "timed out", 504, "Timeout", 4)                                            \
    X(KL_EUNAVAILABLE, -11, "unavailable", 503, "ServiceUnavailable", 14)                          \
    X(KL_ETOOMANY, -12, "too many requests", 429, "TooManyRequests", 8)                            \
    X(KL_ETOOLARGE, -13, "request entity too large", 413, "RequestEntityTooLarge", 8)              \
    X(KL_EMEDIATYPE, -14, "unsupported media type", 415, "UnsupportedMediaType", 3)                \
    X(KL_ENOTACCEPTABLE, -15, "not acceptable", 406, "NotAcceptable", 3)                           \
    X(KL_EMETHOD, -16, "method not allowed", 405, "MethodNotAllowed", 12)                          \
    X(KL_EINTERNAL, -17, "internal error", 500, "InternalError", 13)                               \
    X(KL_EIO, -18, "I/O error", 500, "InternalError", 13)                                          \
    X(KL_ENOSPC, -19, "no space left on device", 507, "InternalError", 8)                          \
    X(KL_ECANCELED, -20, "canceled", 499, "Timeout", 1)                                            \
    X(KL_EEOF, -21, "end of file", 500, "InternalError", 14)                                       \
    X(KL_EPROTO, -22, "protocol error", 400, "BadRequest", 13)                                     \
    X(KL_EAGAIN, -23, "try again", 503, "ServiceUnavailable", 14)                                  \
    X(KL_EMAYBE, -24, "maybe committed", 504, "Timeout", 14)                                       \
    X(KL_ECOMPACTED, -25, "required revision has been compacted", 410, "Expired", 11)              \
    X(KL_EFUTUREREV, -26, "required revision is a future revision", 504, "Timeout", 11)            \
    X(KL_ECORRUPT, -27, "data corrupted", 500, "InternalError", 15)                                \
    X(KL_ELIMIT, -28, "limit exceeded", 413, "RequestEntityTooLarge", 8)                           \
    X(KL_EUNSUPPORTED, -29, "unsupported", 501, "NotImplemented", 12)                              \
    X(KL_EGONE, -30, "gone", 410, "Gone", 11)

enum kl_err {
    KL_OK = 0,
#define KL_ERR_ENUM(name, value, text, http, reason, grpc) name = value,
    KL_ERR_LIST(KL_ERR_ENUM)
#undef KL_ERR_ENUM
};

// An error with its message. Lives on the caller's stack; a callee fills it only when it fails.
struct kl_error {
    int code;
    char msg[1020];
};

// What a message is made of may be longer than it: a buffer for it takes this much, so that the
// text is cut when the error is set and not left out where it was to be appended.
enum { KL_ERROR_TEXT_MAX = 4 << 20 };

// Fills `err` (may be NULL) and returns `code`, so that `return kl_error_set(...)` reads well.
int kl_error_set(struct kl_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int kl_error_vset(struct kl_error *err, int code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
// Puts "context: " before the message on the way up. Returns err's code (KL_EINTERNAL for NULL).
int kl_error_wrap(struct kl_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Translates an errno value at the edge: ENOSPC and EDQUOT to KL_ENOSPC, ENOENT to KL_ENOTFOUND,
// ...
int kl_error_errno(struct kl_error *err, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

const char *kl_err_text(int code);
int kl_err_http(int code);
const char *kl_err_reason(int code);
int kl_err_grpc(int code);
