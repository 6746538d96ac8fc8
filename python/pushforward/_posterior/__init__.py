"""Posteriors of likelihoods that come as functions: priors, rows with their weights, proposals, the sampler."""
