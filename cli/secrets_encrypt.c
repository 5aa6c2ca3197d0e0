// SPDX-License-Identifier: Apache-2.0
// kinglet secrets-encrypt status|enable|disable|rotate-keys: through the running server. Nothing is
// restarted and there is no order to keep: every server follows, and objects are rewritten while
// they are served.
#include "cli/admin.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "base/log.h"
#include <stdio.h>
#include <string.h>

struct options {
    const char *data_dir, *output;
    bool help;
};
#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Data directory of the server"},
    {"output", 'o', NULL, KL_FLAG_STRING, AT(output), "FORMAT", "text", "output",
     "status: text or json"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

static const struct verb {
    const char *name, *done, *help;
} verbs[] = {
    {"status", NULL, "Tell whether Secrets are encrypted, with which keys, and how far it is"},
    {"enable", "secrets-encryption enabled", "Encrypt Secrets, those that exist too"},
    {"disable", "secrets-encryption disabled", "Store Secrets in plain text again"},
    {"rotate-keys", "keys rotated, reencryption started",
     "Make a new key and encrypt all Secrets with it"},
};

static void print_keys(const char *keys, const char *active)
{
    printf("\n%-8s%-20s%s\n%-8s%-20s%s\n", "Active", "Key Type", "Name", "------", "--------",
           "----");
    for (const char *at = keys; *at;) {
        size_t n = strcspn(at, ",");
        bool is = strlen(active) == n && !strncmp(at, active, n);
        printf(" %-7s%-20s%.*s\n", is ? "*" : "", "XSalsa20-POLY1305", (int)n, at);
        at += n + (at[n] == ',');
    }
}

static void print_status(const struct kl_buf *b)
{
    char stage[32] = "", keys[512] = "", active[64] = "";
    int64_t done = 0, all = 0;
    bool on = memmem(b->p, b->n, "\"enable\":true", 13) != NULL;
    kl_admin_text(b, "stage", stage, sizeof stage);
    kl_admin_text(b, "keys", keys, sizeof keys);
    kl_admin_text(b, "activeKey", active, sizeof active);
    kl_admin_number(b, "rewritten", &done);
    kl_admin_number(b, "objects", &all);
    printf("Encryption Status: %s\nCurrent Rotation Stage: %s\n", on ? "Enabled" : "Disabled",
           stage);
    if (!strcmp(stage, "reencrypt_active"))
        printf("Rewritten: %lld of %lld\n", (long long)done, (long long)all);
    if (*keys)
        print_keys(keys, active);
}

static int usage(int rc)
{
    FILE *f = rc ? stderr : stdout;
    fprintf(f, "USAGE:\n   kinglet secrets-encrypt COMMAND [flags]\n\nCOMMANDS:\n");
    for (size_t i = 0; i < KL_COUNT(verbs); i++)
        fprintf(f, "   %-12s %s\n", verbs[i].name, verbs[i].help);
    if (!rc) {
        printf("\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
    }
    return rc;
}

int kl_cmd_secrets_encrypt(int argc, char **argv)
{
    struct options o = {0};
    struct kl_arena a;
    struct kl_error err = {0};
    struct kl_buf target, answer;
    const struct verb *verb = NULL;
    for (size_t i = 0; argc > 1 && i < KL_COUNT(verbs); i++)
        if (!strcmp(argv[1], verbs[i].name))
            verb = &verbs[i];
    if (!verb)
        return usage(argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) ? 0 : 2);
    kl_arena_init(&a, 1 << 20);
    kl_log_setup(KL_LOG_WARN, false);
    if (kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc - 1, argv + 1, NULL, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        kl_arena_fini(&a);
        return 2;
    }
    if (o.help) {
        kl_arena_fini(&a);
        return usage(0);
    }
    if (!o.data_dir)
        o.data_dir = kl_default_data_dir(&a);
    kl_buf_init(&target, 256);
    kl_buf_init(&answer, 64 << 10);
    kl_buf_printf(&target, "/v1/secrets-encrypt?name=%s", verb->name);
    kl_buf_putc(&target, 0);
    int rc = kl_admin_call(o.data_dir, verb->done ? "POST" : "GET", target.p, &answer, &err);
    if (rc)
        fprintf(stderr, "kinglet: %s\n", err.msg);
    else if (verb->done)
        printf("%s\n", verb->done);
    else if (!strcmp(o.output, "json"))
        printf("%.*s", (int)answer.n, answer.p);
    else
        print_status(&answer);
    kl_buf_fini(&target);
    kl_buf_fini(&answer);
    kl_arena_fini(&a);
    return rc ? 1 : 0;
}
