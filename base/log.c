// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "base/clock.h"
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MSG_BYTES = 4096, LINE_BYTES = 8192 };

static atomic_int log_level = KL_LOG_INFO;
static atomic_bool log_json;

void kl_log_setup(enum kl_log_level level, bool json)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&log_json, json, memory_order_relaxed);
}

bool kl_log_on(enum kl_log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

struct line {
    char p[LINE_BYTES];
    size_t n, max;
};

static void put_byte(struct line *l, char c)
{
    if (l->n < l->max)
        l->p[l->n++] = c;
}

static void put_text(struct line *l, const char *z)
{
    while (*z)
        put_byte(l, *z++);
}

static void put_hex(struct line *l, const char *prefix, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    if (l->max - l->n < strlen(prefix) + 2) {
        l->max = l->n; // never half an escape
        return;
    }
    put_text(l, prefix);
    put_byte(l, hex[c >> 4]);
    put_byte(l, hex[c & 15]);
}

static void put_pair(struct line *l, char c)
{
    if (l->max - l->n < 2) {
        l->max = l->n;
        return;
    }
    put_byte(l, '\\');
    put_byte(l, c);
}

// Length of the UTF-8 sequence at s of which n bytes are there, 0 when it is not one.
static size_t utf8_len(const unsigned char *s, size_t n)
{
    size_t want = s[0] >= 0xf0 && s[0] <= 0xf4   ? 4
                  : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                  : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
                                                 : 0;
    if (want == 0 || want > n)
        return 0;
    for (size_t i = 1; i < want; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : want;
}

// A message is one line whatever names went into it: control bytes are written as escapes.
static void put_escaped(struct line *l, const char *msg, size_t n, bool json)
{
    const unsigned char *s = (const unsigned char *)msg;
    for (size_t i = 0; i < n;) {
        unsigned char c = s[i];
        size_t len;
        if (json && (c == '"' || c == '\\')) {
            put_pair(l, (char)c);
        } else if (c == '\n') {
            put_pair(l, 'n');
        } else if (c < 0x20 || c == 0x7f) {
            put_hex(l, json ? "\\u00" : "\\x", c);
        } else if (c < 0x80) {
            put_byte(l, (char)c);
        } else if ((len = utf8_len(s + i, n - i)) && l->max - l->n >= len) {
            memcpy(l->p + l->n, s + i, len);
            l->n += len;
            i += len;
            continue;
        } else if (len) {
            return;
        } else {
            if (json)
                put_hex(l, "\\uff", 0xfd); // U+FFFD
            else
                put_hex(l, "\\x", c);
        }
        i++;
    }
}

void kl_log_write(enum kl_log_level level, const char *component, const char *fmt, ...)
{
    static const char *const human[] = {"", "ERROR", "WARN ", "INFO ", "DEBUG"};
    static const char *const word[] = {"", "error", "warn", "info", "debug"};
    int saved_errno = errno;
    bool json = atomic_load_explicit(&log_json, memory_order_relaxed);

    char msg[MSG_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int r = vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    size_t n = r < 0 ? 0 : (size_t)r < sizeof(msg) ? (size_t)r : sizeof(msg) - 1;
    bool cut = r >= 0 && (size_t)r > n;

    int64_t ms = kl_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    struct line l;
    const char *format = json ? "{\"ts\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\",\"level\":\"%s\","
                                "\"component\":\"%s\",\"msg\":\""
                              : "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s %-7s ";
    int head = snprintf(l.p, sizeof(l.p) / 2, format, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                        tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000),
                        json ? word[level] : human[level], component);
    l.n = head < 0 ? 0 : (size_t)head < sizeof(l.p) / 2 ? (size_t)head : sizeof(l.p) / 2 - 1;
    l.max = sizeof(l.p) - 8; // room for what ends the line
    put_escaped(&l, msg, n, json);
    cut = cut || l.n >= l.max;
    l.max = sizeof(l.p);
    put_text(&l, cut ? "..." : "");
    put_text(&l, json ? "\"}\n" : "\n");

    // One write, so that lines of several threads and processes do not mix.
    ssize_t put;
    do {
        put = write(STDERR_FILENO, l.p, l.n);
    } while (put < 0 && errno == EINTR);
    errno = saved_errno;
}
