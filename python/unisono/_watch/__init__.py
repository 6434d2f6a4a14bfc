"""Seeing inside a program that hangs or is slow."""
