// SPDX-License-Identifier: Apache-2.0
// kinglet's own version; meson says which.
#pragma once
#ifndef KINGLET_VERSION
#define KINGLET_VERSION "dev"
#endif
