"""What the tensors of Medical Diffusion's checkpoints are called here."""

from __future__ import annotations

import re

BUFFERS = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2",
)  # fmt: skip
"""Of the schedule."""
FREQUENCIES = ".rotary_emb.freqs"
"""The end of the names of the buffer that all attentions along the first axis share."""

# Beginnings first, then what is within and at the end: each is replaced where it is found.
_NETWORK = (
    (r"^time_rel_pos_bias\.relative_attention_bias\.", "distance_bias.table."),
    (r"^init_conv\.", "conv_in."),
    (r"^init_temporal_attn\.", "attention_in."),
    (r"^time_mlp\.1\.", "time_embedding.layers.0."),
    (r"^time_mlp\.3\.", "time_embedding.layers.2."),
    (r"^downs\.(\d+)\.4\.", r"shrink.\1."),
    (r"^ups\.(\d+)\.4\.", r"grow.\1."),
    (r"^(down|up)s\.(\d+)\.0\.", r"\1.\2.block1."),
    (r"^(down|up)s\.(\d+)\.1\.", r"\1.\2.block2."),
    (r"^(down|up)s\.(\d+)\.2\.", r"\1.\2.within."),
    (r"^(down|up)s\.(\d+)\.3\.", r"\1.\2.along."),
    (r"^mid_block(\d)\.", r"middle.block\1."),
    (r"^mid_spatial_attn\.", "middle.within."),
    (r"^mid_temporal_attn\.", "middle.along."),
    (r"^final_conv\.0\.", "block_out."),
    (r"^final_conv\.1\.", "conv_out."),
    (r"\.mlp\.1\.", ".film."),
    (r"\.block(\d)\.proj\.", r".conv\1."),
    (r"\.block(\d)\.norm\.", r".norm\1."),
    (r"\.res_conv\.", ".shortcut."),
    (r"\.fn\.norm\.gamma$", ".norm.gain"),
    (r"(\.fn)+\.to_qkv\.", ".qkv."),
    (r"(\.fn)+\.to_out\.", ".project."),
)
_VQGAN = (
    (r"^encoder\.conv_first\.conv\.", "encode_in."),
    (r"^encoder\.conv_blocks\.(\d+)\.down\.conv\.", r"encode_levels.\1.resample."),
    (r"^encoder\.conv_blocks\.(\d+)\.res\.", r"encode_levels.\1.block."),
    (r"^encoder\.final_block\.0\.", "encode_norm."),
    (r"^pre_vq_conv\.conv\.", "encode_out."),
    (r"^codebook\.embeddings$", "codebook"),
    (r"^post_vq_conv\.conv\.", "decode_in."),
    (r"^decoder\.final_block\.0\.", "decode_norm."),
    (r"^decoder\.conv_blocks\.(\d+)\.up\.convt\.", r"decode_levels.\1.resample."),
    (r"^decoder\.conv_blocks\.(\d+)\.res(\d)\.", r"decode_levels.\1.block\2."),
    (r"^decoder\.conv_last\.conv\.", "decode_out."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
)
_DEAD = re.compile(
    r"(image_discriminator|video_discriminator|perceptual_model)\.|codebook\.(N|z_avg)$"
)


def network_name(name: str) -> str:
    """Of a tensor of the network, which there stands under ``denoise_fn.``."""
    return _renamed(name, _NETWORK)


def vqgan_name(name: str) -> str:
    """Of a tensor of the VQ-GAN, which there may stand under ``vqgan.``."""
    return _renamed(name, _VQGAN)


def is_dead_weight(name: str) -> bool:
    """Whether only the training of a VQ-GAN needs a tensor: discriminators, the perceptual loss."""
    return _DEAD.match(name) is not None


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for found, own in rules:
        name = re.sub(found, own, name)
    return name
