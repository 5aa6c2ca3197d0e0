// SPDX-License-Identifier: Apache-2.0
#include "net/http_util.h"
#include "base/err.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *kl_http_status_text(int status)
{
    // clang-format off
    switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 103: return "Early Hints";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Request Entity Too Large";
    case 414: return "Request URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Requested Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Entity";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    case 511: return "Network Authentication Required";
    default: return "";
    }
    // clang-format on
}

void kl_http_date(char ret[32], int64_t unix_s)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)unix_s;
    struct tm tm;
    gmtime_r(&t, &tm);
    // Unsigned, so that the compiler sees that two digits are two digits.
    snprintf(ret, 32, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday % 7],
             (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12],
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

// content-type: Content-Type
static void put_canonical(struct kl_outq *q, struct kl_str name)
{
    char buf[128];
    bool up = true;
    while (name.n > 0) {
        size_t n = name.n < sizeof(buf) ? name.n : sizeof(buf);
        for (size_t i = 0; i < n; i++) {
            char ch = name.p[i];
            buf[i] = up && ch >= 'a' && ch <= 'z' ? (char)(ch - 'a' + 'A') : ch;
            up = ch == '-';
        }
        kl_outq_append(q, buf, n);
        name = kl_str_from(name, n);
    }
}

void kl_h1_put_header(struct kl_outq *q, struct kl_str name, struct kl_str value)
{
    put_canonical(q, name);
    kl_outq_puts(q, KL_STR(": "));
    kl_outq_puts(q, value);
    kl_outq_puts(q, KL_STR("\r\n"));
}

// RFC 9110 token, without capitals
static bool is_token_char(unsigned char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-' ||
           (ch && strchr("!#$%&'*+.^_`|~", ch));
}

bool kl_http_header_ok(const struct kl_http_header *h)
{
    if (!h->name.n)
        return false;
    for (size_t i = 0; i < h->name.n; i++)
        if (!is_token_char((unsigned char)h->name.p[i]))
            return false;
    size_t n = h->value.n;
    return !n || (!memchr(h->value.p, '\r', n) && !memchr(h->value.p, '\n', n) &&
                  !memchr(h->value.p, 0, n));
}

bool kl_http_hop_header(struct kl_str n)
{
    return kl_str_eqz(n, "connection") || kl_str_eqz(n, "transfer-encoding") ||
           kl_str_eqz(n, "keep-alive") || kl_str_eqz(n, "upgrade") ||
           kl_str_eqz(n, "proxy-connection");
}

bool kl_http_list_has(struct kl_str list, struct kl_str token)
{
    struct kl_str part;
    while (kl_str_split(&list, ',', &part))
        if (kl_str_ieq(kl_str_trim(part), token))
            return true;
    return false;
}

int kl_h1_text_add(struct kl_h1_text *t, struct kl_arena *a, size_t max, struct kl_str piece)
{
    if (piece.n == 0)
        return 0;
    if (t->n + piece.n > t->cap) {
        size_t cap = t->cap ? (t->n + piece.n) * 2 : piece.n;
        char *grown = cap < max ? kl_arena_alloc(a, cap) : NULL;
        if (!grown)
            return KL_ENOMEM;
        if (t->n)
            memcpy(grown, t->p, t->n);
        t->p = grown;
        t->cap = cap;
    }
    memcpy(t->p + t->n, piece.p, piece.n);
    t->n += piece.n;
    return 0;
}

bool kl_h1_take_header(struct kl_h1_text *name, struct kl_h1_text *value,
                       struct kl_http_header *ret)
{
    for (size_t i = 0; i < name->n; i++)
        if (name->p[i] >= 'A' && name->p[i] <= 'Z')
            name->p[i] = (char)(name->p[i] - 'A' + 'a');
    ret->name = (struct kl_str){name->p, name->n};
    ret->value = kl_str_trim((struct kl_str){value->p ? value->p : "", value->n});
    *name = *value = (struct kl_h1_text){0};
    return kl_http_header_ok(ret);
}
