// SPDX-License-Identifier: Apache-2.0
// RE2, opened when first needed: linked, it and the C++ library would cost every start. The header
// gives the layout of its classes; the few functions that are not inline are looked up by their
// names in the Itanium ABI. Nothing here throws.
#include "object/cel/re2_cc_int.h"
#include <dlfcn.h>
#include <pthread.h>
#include <re2/re2.h>
#include <stdlib.h>

namespace {

const char soname[] = KL_RE2_SONAME;

struct library {
    void (*construct)(void *self, const re2::StringPiece &pattern, const RE2::Options &options);
    void (*destroy)(void *self);
    bool (*match)(const void *self, const re2::StringPiece &text, size_t from, size_t to,
                  RE2::Anchor anchor, re2::StringPiece *groups, int ngroups);
    bool ok;
};
library lib;
pthread_once_t once = PTHREAD_ONCE_INIT;

template <typename F> bool find(void *handle, const char *name, F *ret)
{
    *ret = reinterpret_cast<F>(dlsym(handle, name));
    return *ret != nullptr;
}

void open_library()
{
    void *h = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    lib.ok = h &&
             find(h, "_ZN3re23RE2C1ERKNS_11StringPieceERKNS0_7OptionsE", &lib.construct) &&
             find(h, "_ZN3re23RE2D1Ev", &lib.destroy) &&
             find(h, "_ZNK3re23RE25MatchERKNS_11StringPieceEmmNS0_6AnchorEPS1_i", &lib.match);
}

// Go's words for what is wrong.
const char *words(RE2::ErrorCode code)
{
    switch (code) {
    case RE2::ErrorBadEscape:
        return "invalid escape sequence";
    case RE2::ErrorBadCharClass:
        return "invalid character class";
    case RE2::ErrorBadCharRange:
        return "invalid character class range";
    case RE2::ErrorMissingBracket:
        return "missing closing ]";
    case RE2::ErrorMissingParen:
        return "missing closing )";
    case RE2::ErrorUnexpectedParen:
        return "unexpected )";
    case RE2::ErrorTrailingBackslash:
        return "trailing backslash at end of expression";
    case RE2::ErrorRepeatArgument:
        return "missing argument to repetition operator";
    case RE2::ErrorRepeatSize:
        return "invalid repeat count";
    case RE2::ErrorRepeatOp:
        return "invalid nested repetition operator";
    case RE2::ErrorBadPerlOp:
        return "invalid or unsupported Perl syntax";
    case RE2::ErrorBadUTF8:
        return "invalid UTF-8";
    case RE2::ErrorBadNamedCapture:
        return "invalid named capture";
    case RE2::ErrorPatternTooLarge:
        return "expression too large";
    default:
        return "unexpected error";
    }
}

} // namespace

extern "C" void *cel_re2_new(const char *pattern, size_t n, bool *ret_ok,
                             struct cel_re2_error *ret_error)
{
    *ret_ok = false;
    *ret_error = cel_re2_error();
    pthread_once(&once, open_library);
    size_t size = (sizeof(RE2) + alignof(RE2) - 1) & ~(alignof(RE2) - 1);
    void *memory = lib.ok ? aligned_alloc(alignof(RE2), size) : nullptr;
    if (!memory)
        return nullptr;
    RE2::Options options;
    options.set_log_errors(false);
    lib.construct(memory, re2::StringPiece(pattern, n), options);
    const RE2 *re = static_cast<const RE2 *>(memory);
    *ret_ok = re->ok();
    if (!*ret_ok) {
        RE2::ErrorCode code = re->error_code();
        ret_error->words = words(code);
        ret_error->whole = code == RE2::ErrorMissingParen || code == RE2::ErrorUnexpectedParen;
        ret_error->too_large = code == RE2::ErrorPatternTooLarge;
        ret_error->piece = re->error_arg().data();
        ret_error->piece_n = code == RE2::ErrorTrailingBackslash ? 0 : re->error_arg().size();
    }
    return memory;
}

extern "C" void cel_re2_free(void *re)
{
    if (!re)
        return;
    lib.destroy(re);
    free(re);
}

extern "C" bool cel_re2_match(const void *re, const char *text, size_t n, size_t from,
                              bool want_place, size_t *ret_begin, size_t *ret_end)
{
    re2::StringPiece subject(text, n), found;
    if (!lib.match(re, subject, from, n, RE2::UNANCHORED, want_place ? &found : nullptr,
                   want_place))
        return false;
    if (want_place) {
        *ret_begin = static_cast<size_t>(found.data() - text);
        *ret_end = *ret_begin + found.size();
    }
    return true;
}
