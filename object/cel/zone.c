// SPDX-License-Identifier: Apache-2.0
// Time zones by name from the system's database (RFC 8536). The last rule of a file, for times
// behind its table, is taken from the table's last years.
#include "object/cel/zone_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { MAX_FILE = 256 << 10, HEADER = 44 };

static int64_t big_endian(const unsigned char *p, int n)
{
    uint64_t v = p[0] & 0x80 ? UINT64_MAX : 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}

static unsigned char *read_zone(struct kl_str name, size_t *ret_n)
{
    char path[512];
    if (!name.n || name.n > 200 || name.p[0] == '/' || name.p[0] == '.' || name.p[0] == '\\')
        return NULL;
    for (size_t i = 0; i < name.n; i++)
        if (!name.p[i] || (name.p[i] == '.' && i && name.p[i - 1] == '.'))
            return NULL;
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%.*s", KL_PRI(name));
    FILE *f = fopen(path, "rbe");
    unsigned char *data = f ? malloc(MAX_FILE) : NULL;
    *ret_n = data ? fread(data, 1, MAX_FILE, f) : 0;
    if (f)
        fclose(f);
    if (data && (*ret_n < HEADER || memcmp(data, "TZif", 4) != 0)) {
        free(data);
        data = NULL;
    }
    return data;
}

// The table of 64-bit times behind the one of 32-bit times.
static bool look_up(const unsigned char *p, size_t n, int64_t seconds, int64_t *ret)
{
    int width = 4;
    const unsigned char *end = p + n;
    for (int pass = 0;; pass++) {
        if (end - p < HEADER)
            return false;
        uint32_t count[6]; // isut, isstd, leap, time, type, char
        for (int i = 0; i < 6; i++)
            count[i] = (uint32_t)big_endian(p + 20 + 4 * i, 4);
        if (count[3] > 100000 || count[4] == 0 || count[4] > 256 || count[5] > 4096 ||
            count[2] > 1000 || count[0] > 256 || count[1] > 256)
            return false;
        size_t size = count[3] * ((size_t)width + 1) + count[4] * 6 + count[5] +
                      count[2] * ((size_t)width + 4) + count[1] + count[0];
        if ((size_t)(end - p) < HEADER + size)
            return false;
        if (pass == 0 && p[4] >= '2') {
            p += HEADER + size;
            width = 8;
            continue;
        }
        const unsigned char *times = p + HEADER, *types = times + count[3] * (size_t)width;
        const unsigned char *infos = types + count[3];
        // Behind the table the rules of its last full 400-year cycle would hold; the files end with
        // a rule that repeats each year, which the same day of an earlier year shows.
        uint32_t i = 0, type = 0;
        if (count[3]) {
            int64_t last = big_endian(times + (count[3] - 1) * (size_t)width, width);
            if (seconds > last && last > 0) {
                int64_t year28 = INT64_C(883612800); // the calendar repeats after 28 years
                seconds -= (seconds - last + year28 - 1) / year28 * year28;
            }
        }
        while (i < count[3] && big_endian(times + i * (size_t)width, width) <= seconds)
            i++;
        if (i)
            type = types[i - 1];
        else
            while (type + 1 < count[4] && infos[6 * type + 4])
                type++;
        if (type >= count[4])
            return false;
        *ret = big_endian(infos + 6 * (size_t)type, 4);
        return true;
    }
}

bool cel_zone_offset(struct kl_str name, int64_t seconds, int64_t *ret_offset)
{
    size_t n;
    *ret_offset = 0;
    if (!name.n || kl_str_eqz(name, "UTC"))
        return true;
    unsigned char *data = read_zone(name, &n);
    bool ok = data && look_up(data, n, seconds, ret_offset);
    free(data);
    return ok;
}
