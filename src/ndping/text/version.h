// Which nd this is.
#ifndef ND_NDPING_TEXT_VERSION_H_
#define ND_NDPING_TEXT_VERSION_H_

namespace nd::ndping {

// "0.1.0": the project's version, from CMakeLists.txt.
inline constexpr char kVersion[] = ND_VERSION;

}  // namespace nd::ndping

#endif  // ND_NDPING_TEXT_VERSION_H_
