// SPDX-License-Identifier: Apache-2.0
// kinglet certificate list|revoke|restore: through the running server, for all servers of the
// datastore.
#include "cli/revoke.h"
#include "apiserver/auth/revoke.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/admin.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "store/wait.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_MS = 30 * 1000, MAX_DELETED = 256, SERIAL_MIN = 8 };

// ---- the server's side

static int read_all(struct kl_store *s, struct kl_txn *txn, struct kl_op *get, struct kl_error *err)
{
    char end[sizeof KL_REVOKED_PREFIX] = KL_REVOKED_PREFIX;
    end[sizeof KL_REVOKED_PREFIX - 2] = '/' + 1;
    *get = (struct kl_op){.kind = KL_OP_GET, .key = KL_STR(KL_REVOKED_PREFIX), .end = kl_str(end)};
    *txn = (struct kl_txn){.body = {.then = get, .nthen = 1}};
    return kl_store_run_txn(s, txn, PATIENCE_MS, err);
}

static void split(struct kl_str key, struct kl_str *kind, struct kl_str *time, struct kl_str *name)
{
    *name = kl_str_from(key, sizeof KL_REVOKED_PREFIX - 1);
    if (!kl_str_split(name, '/', kind) || !kl_str_split(name, '/', time) || !name->p)
        *kind = *time = *name = KL_STR("");
}

static int list(struct kl_store *s, struct kl_buf *answer, struct kl_error *err)
{
    struct kl_op get;
    struct kl_txn txn;
    struct kl_str kind, time, name;
    int rc = read_all(s, &txn, &get, err);
    for (size_t i = 0; !rc && i < get.nkvs; i++) {
        split(kl_kv_key(get.kvs[i]), &kind, &time, &name);
        kl_buf_printf(answer, "%.*s %.*s %.*s\n", KL_PRI(kind), KL_PRI(time), KL_PRI(name));
    }
    kl_txn_fini(&txn);
    return rc ? rc : answer->err;
}

static int add(struct kl_store *s, struct kl_str kind, struct kl_str name, struct kl_error *err)
{
    char key[sizeof KL_REVOKED_PREFIX + KL_REVOKED_NAME_MAX + 40];
    struct kl_bytes *value = kl_bytes_new(KL_STR("1"));
    if (!value)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    snprintf(key, sizeof key, KL_REVOKED_PREFIX "%.*s/%010lld/%.*s", KL_PRI(kind),
             (long long)(kl_wall_ms() / 1000), KL_PRI(name));
    struct kl_op put = {.kind = KL_OP_PUT, .key = kl_str(key), .value = value};
    struct kl_txn txn = {.body = {.then = &put, .nthen = 1}};
    int rc = kl_store_run_txn(s, &txn, PATIENCE_MS, err);
    kl_txn_fini(&txn);
    kl_bytes_unref(value);
    return rc;
}

static int take_away(struct kl_store *s, struct kl_str kind, struct kl_str name,
                     struct kl_error *err)
{
    struct kl_op get, del[MAX_DELETED];
    struct kl_txn txn, out;
    struct kl_str k, time, nm;
    size_t n = 0;
    int rc = read_all(s, &txn, &get, err);
    for (size_t i = 0; !rc && i < get.nkvs && n < MAX_DELETED; i++) {
        split(kl_kv_key(get.kvs[i]), &k, &time, &nm);
        if (kl_str_eq(k, kind) && kl_str_eq(kl_revoked_name(k, nm), name))
            del[n++] = (struct kl_op){.kind = KL_OP_DELETE, .key = kl_kv_key(get.kvs[i])};
    }
    if (!rc && !n)
        rc =
            kl_error_set(err, KL_ENOTFOUND, "%.*s %.*s is not revoked", KL_PRI(kind), KL_PRI(name));
    if (!rc) {
        out = (struct kl_txn){.body = {.then = del, .nthen = n}};
        rc = kl_store_run_txn(s, &out, PATIENCE_MS, err);
        kl_txn_fini(&out);
    }
    kl_txn_fini(&txn);
    return rc;
}

int kl_revoke_command(struct kl_store *s, struct kl_str method, const char *who,
                      struct kl_buf *answer, struct kl_error *err)
{
    struct kl_str name = kl_str(who), kind;
    if (kl_str_eqz(method, "GET"))
        return list(s, answer, err);
    if (kl_str_split(&name, '/', &kind))
        name = kl_revoked_name(kind, name);
    if (!name.p || !name.n || name.n > KL_REVOKED_NAME_MAX ||
        (!kl_str_eqz(kind, "user") && !kl_str_eqz(kind, "serial")))
        return kl_error_set(err, KL_EBADREQUEST, "%s: neither user nor serial", who);
    bool revoke = kl_str_eqz(method, "POST");
    int rc = revoke ? add(s, kind, name, err) : take_away(s, kind, name, err);
    if (!rc)
        kl_log(KL_LOG_INFO, "admin", "certificate %s %.*s=%.*s", revoke ? "revoke" : "restore",
               KL_PRI(kind), KL_PRI(name));
    return rc;
}

// ---- the command's side

struct options {
    const char *data_dir;
    bool user, serial, help;
};
#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Data directory of the server"},
    {"user", 0, NULL, KL_FLAG_BOOL, AT(user), NULL, "false", "what", "It is a user's name"},
    {"serial", 0, NULL, KL_FLAG_BOOL, AT(serial), NULL, "false", "what", "It is a serial number"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

static const struct verb {
    const char *name, *method, *help;
} verbs[] = {
    {"list", "GET", "Tell what is revoked, and since when"},
    {"revoke", "POST",
     "SERIAL (hexadecimal): this client certificate; USER: all that the user has now (tokens too)"},
    {"restore", "DELETE", "SERIAL or USER: let it be good again"},
};

enum serial_form { NO_SERIAL, SERIAL, AMBIGUOUS };

static int usage(int rc)
{
    FILE *f = rc ? stderr : stdout;
    fprintf(f, "USAGE:\n   kinglet certificate list [flags]\n   kinglet certificate revoke|restore "
               "SERIAL|USER [flags]\n\nCOMMANDS:\n");
    for (size_t i = 0; i < KL_COUNT(verbs); i++)
        fprintf(f, "   %-12s %s\n", verbs[i].name, verbs[i].help);
    if (!rc) {
        printf("\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
    }
    return rc;
}

// "0x1A2B...", "1a:2b:...", "1A2B...", as openssl and browsers show it, with --serial also a short
// one: lower-case digits without the rest and without leading zeros, which is how the server has it
// (kl_user.serial). Decimal digits alone could be either, or a user: AMBIGUOUS.
static enum serial_form take_serial(const char *text, bool told, char *ret, size_t n)
{
    bool prefixed = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    bool marked = prefixed, letters = false, too_long = false;
    size_t k = 0, digits = 0;
    for (text += prefixed ? 2 : 0; *text; text++) {
        char c = *text >= 'A' && *text <= 'F' ? (char)(*text | 0x20) : *text;
        if (c == ':') {
            marked = true;
            continue;
        }
        letters |= c >= 'a' && c <= 'f';
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return NO_SERIAL;
        digits++;
        if (!k && c == '0')
            continue;
        if (k + 1 < n)
            ret[k++] = c;
        else
            too_long = true;
    }
    ret[k] = 0;
    if (digits && !marked && !letters)
        return AMBIGUOUS;
    return k && !too_long && (marked || told || digits >= SERIAL_MIN) ? SERIAL : NO_SERIAL;
}

static void print_list(struct kl_str text)
{
    struct kl_str line, kind, seconds;
    printf("%-10s%-24s%s\n", "KIND", "REVOKED", "NAME");
    while (kl_str_split(&text, '\n', &line)) {
        int64_t at;
        char when[32];
        struct tm tm;
        if (!kl_str_split(&line, ' ', &kind) || !kl_str_split(&line, ' ', &seconds) || !line.p ||
            !kl_str_to_i64(seconds, &at))
            continue;
        time_t t = (time_t)at;
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
        printf("%-10.*s%-24s%.*s\n", KL_PRI(kind), when, KL_PRI(line));
    }
}

static int run(const struct verb *verb, const struct options *o, const char *who)
{
    struct kl_buf target, answer;
    struct kl_error err = {0};
    char serial[KL_USER_SERIAL_MAX + 1];
    enum serial_form form =
        who && !o->user ? take_serial(who, o->serial, serial, sizeof serial) : NO_SERIAL;
    bool is_serial = form == SERIAL;
    if (form == AMBIGUOUS) {
        fprintf(stderr,
                "kinglet: %s: write a serial number in hexadecimal (`openssl x509 -noout -serial` "
                "shows it) and with 0x before it; a user of this name is meant with --user\n",
                who);
        return 2;
    }
    if (o->serial && !is_serial) {
        fprintf(stderr, "kinglet: %s is no serial number\n", who ? who : "");
        return 2;
    }
    kl_buf_init(&target, 16 << 10);
    kl_buf_init(&answer, 1 << 20);
    kl_buf_puts(&target, KL_STR("/v1/revoked?why="));
    if (who) {
        kl_buf_printf(&target, "%s/", is_serial ? "serial" : "user");
        kl_admin_escape(&target, is_serial ? serial : who);
    }
    kl_buf_putc(&target, 0);
    int rc = target.err ? kl_error_set(&err, KL_EBADREQUEST, "the name is too long")
                        : kl_admin_call(o->data_dir, verb->method, target.p, &answer, &err);
    if (rc)
        fprintf(stderr, "kinglet: %s\n", err.msg);
    else if (!who)
        print_list(kl_buf_str(&answer));
    else
        printf("%s %s %sd\n", is_serial ? "certificate" : "user", is_serial ? serial : who,
               verb->name);
    kl_buf_fini(&target);
    kl_buf_fini(&answer);
    return rc ? 1 : 0;
}

int kl_cmd_certificate(int argc, char **argv)
{
    struct options o = {0};
    struct kl_arena a;
    struct kl_error err = {0};
    const struct verb *verb = NULL;
    const char *who = NULL;
    for (size_t i = 0; argc > 1 && i < KL_COUNT(verbs); i++)
        if (!strcmp(argv[1], verbs[i].name))
            verb = &verbs[i];
    if (!verb)
        return usage(argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) ? 0 : 2);
    bool named = strcmp(verb->method, "GET") != 0;
    if (named && argc > 2 && argv[2][0] != '-') {
        who = argv[2];
        argv++, argc--;
    }
    kl_arena_init(&a, 1 << 20);
    kl_log_setup(KL_LOG_WARN, false);
    int rc = 0;
    if (kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc - 1, argv + 1, NULL, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        rc = 2;
    } else if (o.help || (named && !who)) {
        rc = usage(o.help ? 0 : 2);
    } else {
        if (!o.data_dir)
            o.data_dir = kl_default_data_dir(&a);
        rc = run(verb, &o, who);
    }
    kl_arena_fini(&a);
    return rc;
}
