"""The operators of torch that a TorchScript archive may call: they compute on what they are given, and touch nothing else.

Left out on purpose, besides all that is not known here: what reads or writes files (save, from_file), seeds or switches a
state of the whole process (manual_seed, set_grad_enabled), runs or waits for other threads and machines (fork, wait, to_here),
prints, or hands out memory by address, size or stride (set_, resize_, as_strided).
"""

from __future__ import annotations

__all__ = ["BUILTINS", "OTHERS", "PURE"]

_MATHEMATICS = """
    abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr alpha_dropout amax amin aminmax angle arccos arccosh
    arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere asin asinh atan atan2 atanh baddbmm bernoulli bilinear
    bincount bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm bucketize cdist ceil celu
    chain_matmul cholesky_inverse cholesky_solve clamp clamp_max clamp_min clip complex conj conj_physical copysign corrcoef cos
    cosh cosine_similarity count_nonzero cov cross cummax cummin cumprod cumsum deg2rad det diff digamma dist div divide dot
    einsum elu eq erf erfc erfinv exp exp2 expm1 exponential float_power floor floor_divide fmax fmin fmod frac frexp
    frobenius_norm gcd ge gelu ger glu gt greater greater_equal hardshrink hardsigmoid hardswish hardtanh heaviside histc hypot
    i0 igamma igammac imag inner inverse isclose isfinite isin isinf isnan isneginf isposinf isreal kron kthvalue lcm ldexp le
    leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid log_softmax logaddexp logaddexp2 logcumsumexp logdet
    logical_and logical_not logical_or logical_xor logit logsumexp lt lu_solve lu_unpack matmul matrix_exp matrix_power max
    maximum mean median min minimum mish mm mode msort mul multinomial multiply mv mvlgamma nan_to_num nanmean nanmedian
    nanquantile nansum ne neg negative nextafter norm normal not_equal nuclear_norm outer pairwise_distance pdist pinverse
    poisson polar polygamma positive pow prelu prod quantile rad2deg real reciprocal relu relu6 remainder renorm round rrelu
    rsqrt rsub searchsorted selu sgn sigmoid sign signbit silu sin sinc sinh slogdet softmax softplus softshrink sort sqrt
    square std std_mean sub subtract sum svd tan tanh tensordot threshold topk trace trapezoid trapz true_divide trunc uniform
    unique_consecutive unique_dim var var_mean vdot where xlogy
    _softmax _log_softmax _unique2 _weight_norm
    fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_irfft
    fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn istft stft
    linalg_cholesky linalg_cholesky_ex linalg_cross linalg_det linalg_diagonal linalg_eigh linalg_eigvalsh linalg_inv
    linalg_inv_ex linalg_lstsq linalg_lu linalg_lu_factor linalg_matmul linalg_matrix_exp linalg_matrix_norm
    linalg_matrix_power linalg_matrix_rank linalg_multi_dot linalg_norm linalg_pinv linalg_qr linalg_slogdet linalg_solve
    linalg_solve_triangular linalg_svd linalg_svdvals linalg_vecdot linalg_vector_norm
    special_digamma special_entr special_erf special_erfc special_erfcx special_erfinv special_exp2 special_expit
    special_expm1 special_gammaln special_i0 special_i0e special_i1 special_i1e special_log1p special_log_softmax special_logit
    special_logsumexp special_ndtr special_ndtri special_round special_sinc special_softmax special_xlog1py special_xlogy
"""
_LAYERS = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    affine_grid_generator avg_pool1d avg_pool2d avg_pool3d batch_norm binary_cross_entropy binary_cross_entropy_with_logits
    channel_shuffle col2im constant_pad_nd conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d
    convolution cosine_embedding_loss cross_entropy_loss ctc_loss dropout embedding embedding_bag feature_alpha_dropout
    feature_dropout fractional_max_pool2d grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell
    hinge_embedding_loss huber_loss im2col instance_norm kl_div l1_loss layer_norm linear lstm lstm_cell max_pool1d
    max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d mse_loss
    native_batch_norm native_channel_shuffle native_dropout native_group_norm native_layer_norm nll_loss nll_loss_nd one_hot
    pad pad_sequence pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
    replication_pad2d replication_pad3d rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell scaled_dot_product_attention
    smooth_l1_loss soft_margin_loss thnn_conv2d triplet_margin_loss upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d _convolution _convolution_mode _native_multi_head_attention _pad_circular
    _pad_enum _scaled_dot_product_attention_math _transformer_encoder_layer_fwd
    _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_lanczos2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
"""
_SHAPES = """
    alias all allclose any arange as_tensor atleast_1d atleast_2d atleast_3d bartlett_window blackman_window block_diag
    broadcast_tensors broadcast_to can_cast cartesian_prod cat chunk clone column_stack combinations concat concatenate
    contiguous copy cpu cuda cumulative_trapezoid data dense_dim detach diag diag_embed diagflat diagonal diagonal_scatter dim
    dsplit dstack element_size empty empty_like empty_strided equal expand expand_as eye fill fill_diagonal flatten flip fliplr
    flipud full full_like gather get_device gradient hamming_window hann_window histogram hsplit hstack index index_add
    index_copy index_fill index_put index_reduce index_select is_complex is_conj is_contiguous is_floating_point is_inference
    is_leaf is_nonzero is_same_size is_signed item kaiser_window lift lift_fresh linspace logspace masked_fill masked_scatter
    masked_select meshgrid moveaxis movedim narrow new_empty new_full new_ones new_zeros nonzero nonzero_numpy numel numpy_T
    ones ones_like permute promote_types rand rand_like randint randint_like randn randn_like random randperm range ravel
    repeat repeat_interleave requires_grad reshape reshape_as resolve_conj resolve_neg result_type roll rot90 row_stack
    scalar_tensor scatter scatter_add scatter_reduce select select_scatter size slice slice_scatter split split_with_sizes
    squeeze stack storage_offset stride sum_to_size swapaxes swapdims t take take_along_dim tensor tensor_split tile to
    to_dense to_mkldnn transpose tril tril_indices triu triu_indices type_as unbind unflatten unfold unsafe_chunk unsafe_split
    unsqueeze vander view view_as view_as_complex view_as_real vsplit vstack zero zeros zeros_like mT mH matrix_H
    _cast_Float _cast_Long _local_scalar_dense _reshape_alias _shape_as_tensor _stack _to_copy _unsafe_view _dim_arange
"""
_VALUES = """
    Bool Complex ComplexImplicit Float FloatImplicit Int IntImplicit ScalarImplicit Size Delete append bin broadcast_shapes
    capitalize center chr clear count degrees dict divmod endswith expandtabs extend fabs factorial find floordiv format gamma
    get hash hex infj insert inf isalnum isalpha isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle
    isupper items join keys len list ljust lower lstrip mathremainder modf nan oct ord partition percentFormat pop popitem
    radians remove replace reverse rfind rindex rjust rpartition rsplit rstrip setdefault sorted splitlines startswith str
    strip swapcase title update upper values warn zfill is_autocast_cpu_enabled is_autocast_enabled is_grad_enabled
    is_scripting has_torch_function
    __and__ __contains__ __derive_index __getitem__ __is__ __isnot__ __lshift__ __not__ __or__ __range_length
    __round_to_zero_floordiv __rshift__ __xor__ __interpolate __upsample __upsample_bilinear __upsample_nearest _infer_size
    _list_to_tensor _set_item _tensor_to_list _unwrap_optional _assert_tensor_metadata _get_tracing_state __iand__ __ior__
    __ixor__ __ilshift__ __irshift__
"""

PURE = frozenset(f"{_MATHEMATICS}{_LAYERS}{_SHAPES}{_VALUES}".split())
"""Of ``aten``, written ``torch.NAME`` or as a method; each stands for its form in place too, NAME_."""

_OTHERS = """
    NumToTensor RaiseException abs data device dtype grad is_cpu is_cuda is_meta is_mkldnn is_mps is_nested is_quantized
    is_sparse is_xla layout max min name ndim requires_grad shape type unchecked_unwrap_optional
"""
_BUILTINS = """
    abs all annotate any bool dict enumerate float getattr hasattr int isinstance len list max min ord pow range round sorted
    str tuple unchecked_cast uninitialized zip
"""

OTHERS = frozenset(f"prim.{name}" for name in _OTHERS.split())
"""Of other namespaces, written ``ops.NAMESPACE.NAME``."""

BUILTINS = frozenset(_BUILTINS.split())
"""What is called by a bare name."""
