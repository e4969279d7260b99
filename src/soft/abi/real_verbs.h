// The libibverbs behind ours, which serves devices that are not ours.
#ifndef ND_SOFT_ABI_REAL_VERBS_H_
#define ND_SOFT_ABI_REAL_VERBS_H_

namespace nd::soft {

// Its symbol at that version, never one of ours; or null. Both must be
// literals.
void* FindReal(const char* symbol, const char* version);

// As in Real<decltype(ibv_open_device)>("ibv_open_device", "IBVERBS_1.1").
template <typename F>
F* Real(const char* symbol, const char* version) {
  return reinterpret_cast<F*>(FindReal(symbol, version));
}

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_REAL_VERBS_H_
