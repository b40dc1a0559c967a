// Included in front of everything in builds with the thread sanitizer. Protobuf's maps have a
// member more there; a libprotobuf that was built without it, as distributions have it, would read
// what lies behind it in the wrong place.
#pragma once
#pragma push_macro("__SANITIZE_THREAD__")
#undef __SANITIZE_THREAD__
#include <google/protobuf/map_field.h>
#pragma pop_macro("__SANITIZE_THREAD__")
