// SPDX-License-Identifier: Apache-2.0
// What is wrong with a cron schedule or a time zone, in the words of robfig/cron and of Go.
#include "object/cron.h"
#include "object/validate/cron_int.h"
#include <unistd.h>

const char *kl_cron_error(struct kl_v *c, struct kl_str schedule)
{
    struct kl_cron cron;
    struct kl_error err = {0};
    int rc = kl_cron_parse(schedule, &cron, &err);
    if (!rc)
        kl_cron_fini(&cron);
    return rc ? kl_v_text(c, "%s", err.msg) : NULL;
}

const char *kl_zone_error(struct kl_v *c, struct kl_str zone)
{
    struct kl_str rest = zone, part;
    bool good = true;
    if (!zone.n)
        return "timeZone must be nil or non-empty string";
    while (good && kl_str_split(&rest, '/', &part)) {
        good = part.n > 0 && part.n <= 14 && part.p[0] != '-' && !kl_str_eqz(part, ".") &&
               !kl_str_eqz(part, "..");
        for (size_t i = 0; good && i < part.n; i++) {
            char ch = part.p[i];
            good = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
                   strchr(".-_+", ch);
        }
    }
    if (zone.p[zone.n - 1] == '/')
        good = false;
    if (good && kl_str_ieq(zone, KL_STR("Local")))
        return "timeZone must be an explicit time zone as defined in "
               "https://www.iana.org/time-zones";
    if (good && !kl_str_eqz(zone, "UTC")) {
        const char *file = kl_v_text(c, "/usr/share/zoneinfo/%.*s", KL_PRI(zone));
        good = access("/usr/share/zoneinfo", F_OK) != 0 || access(file, R_OK) == 0;
    }
    return good ? NULL : kl_v_text(c, "unknown time zone %.*s", KL_PRI(zone));
}
