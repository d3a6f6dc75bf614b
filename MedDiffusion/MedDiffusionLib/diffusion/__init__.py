"""The diffusion model: schedules, samplers, networks, representations, the denoiser."""
