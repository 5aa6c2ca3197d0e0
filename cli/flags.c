// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.h"
#include "object/yaml.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONFIG_MAX = 1 << 20 };

struct parse {
    const struct kl_flag *flags;
    size_t n;
    char *options;
    struct kl_arena *a;
    uint8_t *set_by; // who set each flag last: lists of a stronger source replace those of a weaker
    struct kl_error *err;
};

enum source { FROM_DEFAULT = 1, FROM_FILE, FROM_ENV, FROM_ARGV };

static int set_flag(struct parse *p, const struct kl_flag *f, struct kl_str v, enum source src)
{
    char *at = p->options + f->offset;
    uint8_t *by = &p->set_by[f - p->flags];
    int64_t i;
    if (src < *by)
        return 0;
    struct kl_str text = kl_arena_dup(p->a, v);
    if (!text.p)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    switch (f->kind) {
    case KL_FLAG_STRING:
        *(const char **)at = text.p;
        break;
    case KL_FLAG_BOOL:
        if (!kl_str_eqz(v, "true") && !kl_str_eqz(v, "false"))
            return kl_error_set(p->err, KL_EINVALID, "invalid boolean value \"%.*s\" for -%s",
                                KL_PRI(v), f->name);
        *(bool *)at = kl_str_eqz(v, "true");
        break;
    case KL_FLAG_INT:
        if (!kl_str_to_i64(v, &i) || i < INT32_MIN || i > INT32_MAX)
            return kl_error_set(p->err, KL_EINVALID, "invalid value \"%.*s\" for flag -%s",
                                KL_PRI(v), f->name);
        *(int *)at = (int)i;
        break;
    case KL_FLAG_LIST: {
        struct kl_flag_list *l = (struct kl_flag_list *)at;
        if (*by != src)
            l->n = 0;
        struct kl_str part;
        while (kl_str_split(&text, ',', &part)) {
            if (l->n == KL_FLAG_LIST_MAX)
                return kl_error_set(p->err, KL_EINVALID, "more than %d values for --%s",
                                    KL_FLAG_LIST_MAX, f->name);
            if (part.n)
                l->v[l->n++] = kl_arena_dup(p->a, part).p;
        }
        l->v[l->n] = NULL;
        break;
    }
    }
    *by = (uint8_t)src;
    return 0;
}

static const struct kl_flag *find_flag(const struct parse *p, struct kl_str name)
{
    for (size_t i = 0; i < p->n; i++)
        if (kl_str_eqz(name, p->flags[i].name) ||
            (name.n == 1 && p->flags[i].letter == name.p[0] && name.p[0]))
            return &p->flags[i];
    return NULL;
}

static int read_file(struct parse *p, const char *path, struct kl_str *ret)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return kl_error_errno(p->err, errno, "config file %s", path);
    char *text = kl_arena_alloc(p->a, CONFIG_MAX);
    size_t n = text ? fread(text, 1, CONFIG_MAX, f) : 0;
    bool failed = ferror(f);
    fclose(f);
    *ret = (struct kl_str){text, n};
    if (!text)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    if (failed)
        return kl_error_set(p->err, KL_EIO, "config file %s: cannot be read", path);
    return n < CONFIG_MAX ? 0
                          : kl_error_set(p->err, KL_ETOOLARGE, "config file %s: over %d bytes",
                                         path, CONFIG_MAX);
}

static int scalar(struct parse *p, const struct kl_flag *f, const struct kl_value *v)
{
    struct kl_buf b;
    int rc;
    kl_buf_init(&b, 64 * 1024);
    if (kl_is(v, KL_STRING))
        kl_buf_puts(&b, kl_text(v));
    else
        kl_json_write(&b, v);
    rc = set_flag(p, f, kl_buf_str(&b), FROM_FILE);
    kl_buf_fini(&b);
    return rc;
}

static int apply_file(struct parse *p, const char *path)
{
    struct kl_str text;
    struct kl_value v;
    int rc = read_file(p, path, &text);
    if (rc || !kl_str_trim(text).n)
        return rc;
    if ((rc = kl_yaml_parse(p->a, text, NULL, &v, p->err)))
        return kl_error_wrap(p->err, "config file %s", path);
    for (KL_MAP_EACH_KEY(kv, &v)) {
        const struct kl_flag *f = find_flag(p, kl_text(kv));
        if (!f)
            return kl_error_set(p->err, KL_EINVALID, "config file %s: unknown key %.*s", path,
                                KL_PRI(kl_text(kv)));
        if (kl_is(kv + 1, KL_ARRAY)) {
            for (KL_EACH(x, kv + 1))
                if ((rc = scalar(p, f, x)))
                    return rc;
        } else if ((rc = scalar(p, f, kv + 1))) {
            return rc;
        }
    }
    return 0;
}

static int apply_argv(struct parse *p, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct kl_str s = kl_str(argv[i]);
        if (s.n < 2 || s.p[0] != '-')
            return kl_error_set(p->err, KL_EINVALID, "unexpected argument \"%s\"", argv[i]);
        s = kl_str_from(s, s.p[1] == '-' ? 2 : 1);
        ptrdiff_t eq = kl_str_chr(s, '=');
        struct kl_str name = eq < 0 ? s : (struct kl_str){s.p, (size_t)eq};
        const struct kl_flag *f = find_flag(p, name);
        if (!f)
            return kl_error_set(p->err, KL_EINVALID, "flag provided but not defined: -%.*s",
                                KL_PRI(name));
        struct kl_str v;
        if (eq >= 0)
            v = kl_str_from(s, (size_t)eq + 1);
        else if (f->kind == KL_FLAG_BOOL)
            v = KL_STR("true");
        else if (i + 1 < argc)
            v = kl_str(argv[++i]);
        else
            return kl_error_set(p->err, KL_EINVALID, "flag needs an argument: -%s", f->name);
        int rc = set_flag(p, f, v, FROM_ARGV);
        if (rc)
            return rc;
    }
    return 0;
}

static const char *config_of(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--config=", 9))
            return argv[i] + 9;
        if ((!strcmp(argv[i], "--config") || !strcmp(argv[i], "-c")) && i + 1 < argc)
            return argv[i + 1];
    }
    return getenv("KINGLET_CONFIG_FILE");
}

int kl_flags_parse(const struct kl_flag *flags, size_t n, void *options, struct kl_arena *a,
                   int argc, char **argv, const char *config_file, struct kl_error *err)
{
    struct parse p = {flags, n, options, a, kl_arena_zalloc(a, n), err};
    // Only commands that have the flag read a file: another command's keys are not its own.
    bool reads = find_flag(&p, KL_STR("config")) != NULL;
    const char *asked = reads ? config_of(argc, argv) : NULL;
    int rc = 0;
    if (!p.set_by)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++)
        if (flags[i].def)
            rc = set_flag(&p, &flags[i], kl_str(flags[i].def), FROM_DEFAULT);
    if (!rc && (asked || config_file)) {
        rc = apply_file(&p, asked ? asked : config_file);
        if (rc == KL_ENOTFOUND && !asked)
            rc = 0;
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const char *v = flags[i].env ? getenv(flags[i].env) : NULL;
        if (v && *v)
            rc = set_flag(&p, &flags[i], kl_str(v), FROM_ENV);
    }
    return rc ? rc : apply_argv(&p, argc, argv);
}

void kl_flags_help(const struct kl_flag *flags, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct kl_flag *f = &flags[i];
        char left[64], letter[8] = "";
        if (f->letter)
            snprintf(letter, sizeof letter, ", -%c", f->letter);
        snprintf(left, sizeof left, "--%s%s%s%s", f->name, letter, f->value ? " " : "",
                 f->value ? f->value : "");
        printf("   %-38s (%s) %s", left, f->group, f->help);
        if (f->def && *f->def && f->kind != KL_FLAG_BOOL)
            printf(" (default: \"%s\")", f->def);
        if (f->env)
            printf(" [$%s]", f->env);
        putchar('\n');
    }
}
